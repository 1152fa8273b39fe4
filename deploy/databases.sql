-- Runs once, when the volume is empty, after deploy/postgres.sh has written the roles with their passwords.
\i /tmp/roles.sql
CREATE DATABASE dagster OWNER dagster;
CREATE DATABASE mlflow OWNER mlflow;
REVOKE ALL ON DATABASE dagster, mlflow, postgres, template1 FROM PUBLIC;

-- Runs once, when the volume is empty. PostgreSQL's image creates the database dagster itself.
CREATE DATABASE mlflow;

-- Run once, when the volume is empty; PostgreSQL's image makes the first database (dagster) itself.
CREATE DATABASE mlflow;

-- One database for each: MLflow's and Prefect's schemas share table names.
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_auth;
CREATE DATABASE prefect;

#!/bin/sh
# Reads the secrets it needs from files into the environment, then becomes the service. Secrets never stand in a
# command line, where every process of the machine could read them.
#
#   mlflow-server | prefect-server | worker     a service of docker/compose.yaml
#   worker COMMAND ...                          one command with the worker's logins
#   COMMAND ...                                 as it is
set -eu
umask 077

secret() { tr -d '\r\n' < "/run/secrets/$1"; }

case "${1:-}" in
mlflow-server)
    password=$(secret database_password)
    MLFLOW_BACKEND_STORE_URI="postgresql+psycopg://lanewise:${password}@postgres:5432/mlflow"
    MLFLOW_AUTH_ADMIN_PASSWORD=$(secret mlflow_password)
    MLFLOW_FLASK_SERVER_SECRET_KEY=$(secret mlflow_session_key)
    export MLFLOW_BACKEND_STORE_URI MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
    export MLFLOW_AUTH_CONFIG_PATH=/tmp/mlflow-auth.ini
    cat > "$MLFLOW_AUTH_CONFIG_PATH" <<INI
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = postgresql+psycopg://lanewise:${password}@postgres:5432/mlflow_auth
admin_username = lanewise
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
    exec mlflow server --host 0.0.0.0 --port 5000 --workers 2 --app-name basic-auth \
        --artifacts-destination /artifacts --serve-artifacts \
        --allowed-hosts "$LANEWISE_HOSTS" --cors-allowed-origins "http://127.0.0.1:5000,http://localhost:5000"
    ;;
prefect-server)
    PREFECT_SERVER_DATABASE_CONNECTION_URL="postgresql+asyncpg://lanewise:$(secret database_password)@postgres:5432/prefect"
    PREFECT_SERVER_API_AUTH_STRING="lanewise:$(secret prefect_password)"
    export PREFECT_SERVER_DATABASE_CONNECTION_URL PREFECT_SERVER_API_AUTH_STRING
    exec python -m uvicorn --factory flows.local_server:hardened_app --host 0.0.0.0 --port 4200 --no-access-log
    ;;
worker)
    PREFECT_API_AUTH_STRING="lanewise:$(secret prefect_password)"
    MLFLOW_TRACKING_PASSWORD=$(secret mlflow_password)
    export PREFECT_API_AUTH_STRING MLFLOW_TRACKING_PASSWORD
    shift
    [ "$#" -eq 0 ] || exec "$@"
    prefect work-pool inspect lanewise > /dev/null 2>&1 || prefect work-pool create lanewise --type process
    prefect automation inspect crashed-runs > /dev/null 2>&1 \
        || prefect automation create --from-file /opt/lanewise/crashed-runs.yaml
    # Not --all: the nightly deployment names a study that lies in the source tree only.
    prefect --no-prompt deploy --name manual --prefect-file /opt/lanewise/prefect.yaml
    exec prefect worker start --pool lanewise --limit 1
    ;;
*)
    exec "$@"
    ;;
esac

#!/bin/sh
# Makes the secrets of docker/compose.yaml, each once, readable by their owner only. Existing ones are kept.
set -eu
umask 077
folder="$(dirname "$0")/secrets"
mkdir -p "$folder"
for name in database_password mlflow_password mlflow_session_key prefect_password; do
    file="$folder/$name"
    if [ ! -s "$file" ]; then
        head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$file"
    fi
    # The containers run as user 10001; without swarm, compose hands a file on with the owner it has here.
    chown 10001 "$file" 2> /dev/null || chmod 0444 "$file"
done
echo "secrets are in $folder; MLflow: user lanewise, mlflow_password; Prefect: lanewise:<prefect_password>"

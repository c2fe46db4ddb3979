#!/bin/sh
# What deploy's YAML files say of each other, of the programs and of the router (manifests.py).
set -eu
cd "$(dirname "$0")/../.."
python3 -c 'import yaml' 2>/dev/null || {
    echo "skipped: python3-yaml is not installed"
    exit 77
}
exec python3 -B tests/deploy/manifests.py

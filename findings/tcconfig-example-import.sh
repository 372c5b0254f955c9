#!/usr/bin/env bash
# tcconfig 0.30.1: `tcset --import-setting` of the JSON that its own README shows leaves out whom a rule is for.
# One would guess that the settings printed there ("dst-network=192.168.0.10/32, dst-port=8080, protocol=ip") give the
# filter back. The importer reads such keys with underscores only: with hyphens, as in the README, network and port are
# passed over without a word, and the delay and rate are set for all traffic of the interface.
# Needs python3 and tc. `--tc-command` only prints what would be run.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q tcconfig==0.30.1
# It asks lsmod for sch_netem even if it only prints; the list is of no matter here.
printf '#!/bin/sh\necho sch_netem 1 0\n' > venv/bin/lsmod
chmod +x venv/bin/lsmod
export PATH="$folder/venv/bin:$PATH:/usr/sbin:/sbin"
filters() {  # what tcset would do, of a key in the file: its filter's conditions
  printf '{"lo": {"outgoing": {"%s": {"delay": "10.0ms", "rate": "250Kbps"}}, "incoming": {}}}' "$1" > settings.json
  tcset --import-setting settings.json --tc-command 2>&1 | tee commands >&2
  grep -oE 'match ip (dst|dport) \S+' commands | sort -u | tr '\n' ';' || true
}
hyphens=$(filters "dst-network=192.168.0.10/32, dst-port=8080, protocol=ip")
underscores=$(filters "dst_network=192.168.0.10/32, dst_port=8080, protocol=ip")
echo "with hyphens, as in the README: $hyphens"
echo "with underscores: $underscores"
[[ $hyphens != *192.168.0.10* && $hyphens != *8080* ]]
[[ $underscores == *"dst 192.168.0.10/32"* && $underscores == *"dport 8080"* ]]

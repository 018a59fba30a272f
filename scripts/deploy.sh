#!/usr/bin/env bash
# Checks what stands in deploy/ with the programs that will read it, as far as they are installed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../deploy"

if nats=$(../scripts/nats-server.sh --installed); then
  "$nats" -t -c nats/nats-server.conf >/dev/null 2>&1 || { echo "deploy/nats/nats-server.conf is refused by nats-server" >&2; exit 1; }
  NATS_COORDINATOR=a NATS_WORKER=b NATS_EDGE_AMS_1=c "$nats" -t -c nats/users.conf >/dev/null 2>&1 ||
    { echo "deploy/nats/users.conf is refused by nats-server" >&2; exit 1; }
fi
if command -v promtool >/dev/null; then
  promtool check rules prometheus/alerts.yml >/dev/null
  (cd prometheus && promtool test rules alerts.test.yml >/dev/null) || (cd prometheus && promtool test rules alerts.test.yml)
fi
if command -v systemd-analyze >/dev/null; then
  # It warns and succeeds, so any word about our units counts; the programs are not installed here.
  found=$(systemd-analyze verify systemd/*.service 2>&1 | grep reelmill | grep -v 'is not executable' || true)
  [[ -z $found ]] || { echo "$found" >&2; exit 1; }
fi
# Whatever is asked of metrics is asked of some that there are.
while read -r metric; do
  IFS=_ read -r _ program name <<<"${metric%_bucket}"
  grep -rqE "\"(reelmill_${program}_)?$name\"" "../$program/src" || { echo "deploy/ asks for $metric, which the $program does not have" >&2; exit 1; }
done < <(grep -rhoE 'reelmill_(coordinator|worker|edge)_[a-z0-9_]+[a-z0-9]' prometheus keda | sort -u)
while read -r rule; do
  grep -q "record: $rule\$" prometheus/alerts.yml || { echo "deploy/keda asks for $rule, which no rule records" >&2; exit 1; }
done < <(grep -rhoE 'reelmill:[a-z_]+' keda | sort -u)

#!/usr/bin/env bash
# Models beside their peers, medians in one run: a cached model against `cat` and against nginx sending the same bytes as a
# file; the CDN through a thin link (100 ms, 1 % loss) against `curl`. What is not installed here is said and left out.
#
#   benches/models.sh [cached|thin]     RUNS=7 MIB=1024 THIN_MIB=8 change the sizes
set -euo pipefail
cd "$(dirname "$0")/.."
loader=${LOADER_UNDER_TEST:?run me through make bench}
cloud=target/debug/azaion-cloud
runs=${RUNS:-7}
dir=$(mktemp -d)
pids=()
finish() {
  status=$?
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
  [ "$status" -eq 0 ] || tail -n 20 "$dir"/*.log >&2 || true
  rm -rf "$dir"
  exit "$status"
}
trap finish EXIT
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
await() { for _ in $(seq 200); do [ -s "$1" ] && return; sleep 0.05; done; echo "$1 does not come" >&2; return 1; }

printf 'bench-fragment' > "$dir/fragment"
mkdir -p "$dir/cloud" "$dir/www"
"$cloud" --dir "$dir/cloud" --user "b@example.com:bench-password:ResourceUploader" --fragment-file "$dir/fragment" --s3 \
  > "$dir/cloud.log" 2>&1 &
pids+=($!)
await "$dir/cloud/url"

config() { # $1 = name, $2 = API; a board of its own
  mkdir -p "$dir/$1/state" "$dir/$1/cache" "$dir/$1/oci"
  cat > "$dir/$1/loader.toml" <<TOML
[cloud]
resource_api_url = "$2"
ca_file = "$dir/cloud/ca.pem"
[keys]
hardware_salt = "hardware-salt"
api_salt = "api-salt"
resource_salt = "resource-salt"
[engine]
socket = "dir:$dir/$1/oci"
[control]
listen = ["127.0.0.1:0"]
[cache]
dir = "$dir/$1/cache"
[state]
dir = "$dir/$1/state"
TOML
}
agent() { # $1 = name; sets port
  "$loader" run --config "$dir/$1/loader.toml" > "$dir/$1.log" 2>&1 &
  pids+=($!)
  for _ in $(seq 200); do grep -q 'listens on http' "$dir/$1.log" && break; sleep 0.05; done
  port=$(sed -n 's|.*listens on \(http://[^ ]*\).*|\1|p' "$dir/$1.log" | head -n 1)
  curl -sSf -o /dev/null "$port/login" -d '{"email":"b@example.com","password":"bench-password"}'
}
timed() { curl -sSf -o /dev/null -w '%{time_total}\n' "$@"; }

cached() {
  local mib=${MIB:-1024} i
  head -c $((mib * 1048576)) /dev/urandom > "$dir/www/model"
  config board "$(cat "$dir/cloud/url")"
  agent board
  curl -sSf -o /dev/null -T "$dir/www/model" "$port/upload/model?folder=models"
  local nginx=""
  if command -v nginx >/dev/null; then
    cat > "$dir/nginx.conf" <<CONF
worker_processes 1; pid $dir/nginx.pid; error_log $dir/nginx.log; daemon off;
events { worker_connections 64; }
http { access_log off; sendfile on; tcp_nopush on; server { listen 127.0.0.1:18473; root $dir/www; } }
CONF
    chmod -R a+rX "$dir"
    nginx -c "$dir/nginx.conf" & pids+=($!)
    nginx=http://127.0.0.1:18473/model
    for _ in $(seq 100); do curl -sf -o /dev/null -r 0-0 "$nginx" && break; sleep 0.05; done
  fi
  for i in $(seq "$runs"); do
    timed "$port/load/model" -d '{"folder":"models"}' >> "$dir/ours"
    [ -z "$nginx" ] || timed "$nginx" >> "$dir/nginx-times"
    { TIMEFORMAT=%R; time cat "$dir/www/model" > /dev/null; } 2>> "$dir/cat"
  done
  report() { awk -v s="$2" -v m="$mib" -v name="$1" 'BEGIN {printf "  %-44s %6.3f s  %5.0f MiB/s\n", name, s, m / s}'; }
  echo "a cached model of $mib MiB, medians of $runs:"
  report "azaion-loader, verified and decrypted" "$(median < "$dir/ours")"
  report "cat of the plain file" "$(median < "$dir/cat")"
  if [ -n "$nginx" ]; then
    report "nginx, sendfile of the plain file" "$(median < "$dir/nginx-times")"
    awk -v a="$(median < "$dir/ours")" -v b="$(median < "$dir/nginx-times")" 'BEGIN {printf "  %.2f of the rate of nginx (bound 0.5)\n", b / a}'
  else
    echo "  nginx is not installed: apt-get install nginx-light"
  fi
  awk '/VmHWM/ {printf "  peak memory of the agent: %.1f MiB\n", $2 / 1024}' "/proc/${pids[1]}/status"
}

thin() {
  local mib=${THIN_MIB:-8} s3 api
  head -c $((mib * 1048576)) /dev/urandom > "$dir/www/thin"
  config near "$(cat "$dir/cloud/url")"
  agent near
  curl -sSf -o /dev/null -T "$dir/www/thin" "$port/upload/thin?folder=models"
  s3=$(sed 's/.*://' "$dir/cloud/s3_url"); api=$(sed 's/.*://' "$dir/cloud/url")
  config far "https://10.213.0.2:$api"
  cat > "$dir/through" <<SH
set -euo pipefail
key=\$(sed -n 's/^downloader_access_key: //p' "$dir/cloud/cdn.yaml"); secret=\$(sed -n 's/^downloader_access_secret: //p' "$dir/cloud/cdn.yaml")
CDN_HOST=https://10.213.0.2:$s3 "$loader" run --config "$dir/far/loader.toml" > "$dir/far.log" 2>&1 &
agent=\$!
trap 'kill \$agent' EXIT
for _ in \$(seq 200); do grep -q 'listens on http' "$dir/far.log" && break; sleep 0.05; done
port=\$(sed -n 's|.*listens on \(http://[^ ]*\).*|\1|p' "$dir/far.log" | head -n 1)
curl -sSf -o /dev/null "\$port/login" -d '{"email":"b@example.com","password":"bench-password"}'
for i in 1 2 3; do
  "$loader" cache evict --all --config "$dir/far/loader.toml" > /dev/null
  curl -sSf -o /dev/null -w '%{time_total}\n' "\$port/load/thin" -d '{"folder":"models"}' >> "$dir/thin-ours"
  curl -sSf -o /dev/null -w '%{time_total}\n' --cacert "$dir/cloud/ca.pem" --aws-sigv4 aws:amz:us-east-1:s3 -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" \
    --user "\$key:\$secret" "https://10.213.0.2:$s3/models/thin.big" >> "$dir/thin-curl"
done
SH
  local status=0
  tests/tools/thin-link --delay 100 --loss 1 --map "$s3" --map "$api" bash "$dir/through" || status=$?
  [ "$status" -ne 69 ] || { echo "the thin link cannot run here"; return 0; }
  [ "$status" -eq 0 ] || return "$status"
  echo "$mib MiB through a link of 100 ms and 1 % loss (reno), medians of 3:"
  awk -v a="$(median < "$dir/thin-ours")" -v b="$(median < "$dir/thin-curl")" \
    'BEGIN {printf "  azaion-loader %.1f s, curl %.1f s: %.2f times its rate (bound 2)\n", a, b, b / a}'
}

case "${1:-all}" in
  cached) cached ;;
  thin) thin ;;
  all) cached; thin ;;
  *) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 64 ;;
esac

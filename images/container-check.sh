#!/usr/bin/env bash
# The container image at work: loaded into a private Docker engine, run in it as images/container/compose.yaml says, it
# unlocks an archive from the test cloud into the very engine that it runs in, and is ready again after a restart.
#
# As root; installs docker.io, podman, skopeo and docker-compose where they are missing, and says so. 77: it cannot run here.
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir=${CARGO_TARGET_DIR:-target}
skip() { echo "SKIPPED container-check: $*"; exit 77; }
fail() { echo "container-check: $*" >&2; exit 1; }
ok() { echo "  ok  $*"; }
[ "$(id -u)" -eq 0 ] || skip "a private engine needs root"
missing=()
for package in docker.io podman skopeo docker-compose curl; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "container-check: installs: ${missing[*]}"
    apt-get -o DPkg::Lock::Timeout=600 update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -q --no-install-recommends "${missing[@]}" >/dev/null
fi
for part in azaion-cloud azaion-archive; do
    [ -x "$target_dir/debug/$part" ] || fail "$target_dir/debug/$part is missing; next: make container-check"
done

dir=$(mktemp -d)
cloud="" project=check$$
finish() {
    status=$?
    if [ -S "$dir/engine/docker.sock" ]; then
        if [ "$status" -ne 0 ]; then docker logs "${project}_azaion-loader_1" >&2 || true; fi
        compose down --volumes --timeout 5 >/dev/null 2>&1 || true
    fi
    [ -z "$cloud" ] || { kill "$cloud" && wait "$cloud"; } 2>/dev/null || true
    if [ "$status" -ne 0 ]; then tail -n 5 "$dir"/*.log >&2 2>/dev/null || true; fi
    tests/tools/engine stop "$dir/engine" || true
    rm -rf "$dir"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
compose() { docker-compose --project-name "$project" --project-directory "$dir/board" -f "$dir/compose.yaml" "$@"; }
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do [ "$SECONDS" -lt "$deadline" ] || fail "never came: $*"; sleep 0.1; done
}

# The image, twice: what is built again is the same.
images/container.sh amd64 >"$dir/made.log"
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
name=$target_dir/images/azaion-loader_${version}_container
first=$(sha256sum "$name.tar" "${name}_amd64.tar")
images/container.sh amd64 >"$dir/made.log"
[ "$first" = "$(sha256sum "$name.tar" "${name}_amd64.tar")" ] || fail "two builds of the image differ"
ok "two builds of the image are the same bytes"

socket=$(tests/tools/engine start 20 "$dir/engine") || skip "no private engine: $socket"
export DOCKER_HOST=unix://$socket
docker load -q -i "${name}_amd64.tar" >/dev/null
docker run --rm --network none "azaion-loader:$version" --version >"$dir/version.log" 2>&1 ||
    skip "this machine runs no containers: $(tail -n 1 "$dir/version.log")"
[ "$(docker image inspect -f '{{.Config.User}} {{.Architecture}} {{len .RootFS.Layers}}' "azaion-loader:$version")" = "65532:65532 amd64 1" ] ||
    fail "the image has another user, architecture or number of layers"
ok "$(cat "$dir/version.log"), in the engine"
# What is in it, to the file.
id=$(docker create "azaion-loader:$version")
found=$(docker export "$id" | tar --numeric-owner -tvf - | awk '{print $1, $2, $6}' | grep -E ' (usr|var)/' | sort)
docker rm "$id" >/dev/null
expected="$(printf '%s\n' '-rwxr-xr-x 0/0 usr/bin/azaion-loader' 'drwx------ 65532/65532 var/cache/azaion-loader/' \
    'drwx------ 65532/65532 var/lib/azaion-loader/')"
[ "$(grep -E 'azaion-loader/?$' <<<"$found")" = "$expected" ] || fail "the image holds: $found"
[ "$(grep -c '^-' <<<"$found")" = 1 ] || fail "the image holds other files: $found"
ok "it holds the binary and two directories of its user, nothing else"
# The same Containerfile by the engine's own builder, as its first lines say.
images/container.sh context "$dir/context" amd64
docker build -q -f images/container/Containerfile --build-arg TARGETARCH=amd64 -t azaion-loader:by-docker "$dir/context" >"$dir/build.log" 2>&1 ||
    fail "docker build: $(tail -n 3 "$dir/build.log")"
docker run --rm --network none azaion-loader:by-docker --version >/dev/null || fail "what docker build made does not run"
ok "docker build takes the Containerfile too"

mkdir -p "$dir/board/images" "$dir/cloud"
printf 'container-%s' "$$" >"$dir/fragment"
"$target_dir/debug/azaion-archive" --fragment-file "$dir/fragment" --out "$dir/board/images/images.enc" \
    --image azaion/hello:container --file "loader=$target_dir/x86_64-unknown-linux-gnu/release/azaion-loader" --command "/loader --version" \
    --image azaion/layers:container --dir "docs=docs" --dir "boards=boards" --command "/bin/true"
chmod 0644 "$dir/board/images/images.enc"
"$target_dir/debug/azaion-cloud" --dir "$dir/cloud" --user "tech@example.com:field-password:Operator" \
    --fragment-file "$dir/fragment" >"$dir/cloud.log" 2>&1 &
cloud=$!
until_true 30 test -s "$dir/cloud/url"
cp "$dir/cloud/ca.pem" "$dir/board/images/ca.pem"
# Known beforehand, because the health check asks the address of the configuration.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$dir/board/loader.toml" <<TOML
[cloud]
resource_api_url = "$(cat "$dir/cloud/url")"
ca_file = "/opt/azaion/ca.pem"
[keys]
hardware_salt = "hw"
api_salt = "api"
resource_salt = "res"
[control]
listen = ["127.0.0.1:$port"]
TOML
chown 65532:65532 "$dir/board/loader.toml"
chmod 0400 "$dir/board/loader.toml"
# As it is shipped, but for the socket of the private engine, and a health check that is asked sooner.
sed "s|- /var/run/docker.sock:|- $socket:|; s/interval: 30s/interval: 1s/" images/container/compose.yaml >"$dir/compose.yaml"
# The private engine has no bridge: compose v1 makes one for no service here, network_mode is host.
export LOADER_IMAGE=azaion-loader:$version LOADER_IMAGES=$dir/board/images LOADER_CONFIG=$dir/board/loader.toml
DOCKER_GID=$(stat -c %g "$socket")
export DOCKER_GID
(unset DOCKER_GID; ! compose config -q 2>/dev/null) || fail "compose.yaml is taken without DOCKER_GID"
compose config -q
ok "docker-compose takes compose.yaml, and refuses it without DOCKER_GID"

container=${project}_azaion-loader_1
url=http://127.0.0.1:$port
answers() { curl -sf --noproxy '*' -o /dev/null "$url/health"; }
healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$container")" = "$1" ]; }
compose up -d >"$dir/up.log" 2>&1 || fail "compose up: $(tail -n 3 "$dir/up.log")"
until_true 60 answers
has() { grep -qE -- "$2" <<<"$3" || fail "$1: no /$2/ in: ${3:-nothing}"; ok "$1"; }
has "the port on the board's loopback" '"status":"healthy"' "$(curl -sS --noproxy '*' "$url/health")"
until_true 60 healthy healthy
ok "the health check finds it healthy"
inside() { docker exec "$container" /usr/bin/azaion-loader "$@" 2>&1; }
facts() { grep -E '^(hash|fingerprint|text) '; }
board=$("$target_dir/x86_64-unknown-linux-gnu/release/azaion-loader" fingerprint --config "$dir/board/loader.toml" | facts)
if [ -z "$board" ] || [ "$board" != "$(inside fingerprint | facts)" ]; then
    fail "the container has another fingerprint than the board: $(inside fingerprint)"
fi
ok "the fingerprint is the board's"
has "unlock" '"state":"' "$(curl -sS --noproxy '*' "$url/unlock" -d '{"email":"tech@example.com","password":"field-password"}')"
has "wait" '^ready$' "$(inside wait --timeout 120)"
for image in azaion/hello:container azaion/layers:container; do docker image inspect "$image" >/dev/null || fail "the engine lacks $image"; done
has "the image that it loaded runs" '^azaion-loader [0-9]' "$(docker run --rm --network none azaion/hello:container)"
# The root is read-only, and there is no privilege to get.
has "no capability, no new privileges" '^CapEff:[[:space:]]*0000000000000000.*NoNewPrivs:[[:space:]]*1' \
    "$(tr '\n' ' ' <"/proc/$(docker inspect -f '{{.State.Pid}}' "$container")/status" | grep -oE 'CapEff:\s*[0-9a-f]+|NoNewPrivs:\s*[01]' | tr '\n' ' ')"
kill "$cloud"
wait "$cloud" 2>/dev/null || true
cloud=""
docker restart -t 10 "$container" >/dev/null
until_true 60 answers
has "ready after a restart, without a cloud" '^ready$' "$(inside wait --timeout 60)"
echo "container-check: all passed"

# Debian packages that a script beside this file needs: what is missing is named, and installed as root.
# shellcheck shell=bash
#
# Sourced, with `say` and `die` given by the script and $self its path from the project's root.
: "${self:?is the path of the script, for what it says}"

# missing_of PACKAGE…: those that are not installed, a line each.
missing_of() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

# may_install PACKAGE…: whether this machine and this user can; else it ends with what to do.
may_install() {
    command -v apt-get >/dev/null || die "missing: $*, and this is not Debian; next: install them"
    [ "$(id -u)" -eq 0 ] || die "missing: $*; next: sudo $self install"
    say "installs: $*"
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 "$@" >&2; }

# install_packages PACKAGE…
install_packages() {
    local missing
    mapfile -t missing < <(missing_of "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    may_install "${missing[@]}"
    apt update
    apt install -y --no-install-recommends "${missing[@]}"
}

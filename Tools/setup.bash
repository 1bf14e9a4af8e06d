# Sourced by Tools/demo and Tools/test: what a machine needs beside a Swift 6.3 toolchain.

say() { printf '%s\n' "$*" >&2; }

# install_packages PACKAGE...: installs the Debian packages among them that are missing.
install_packages() {
    local missing=() package
    for package in "$@"; do
        if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
            missing+=("$package")
        fi
    done
    ((${#missing[@]})) || return 0
    local become=()
    if ((EUID != 0)); then
        # Where nobody can type a password, sudo must not ask for one.
        local ask=()
        [[ -t 0 ]] || ask=(-n)
        if command -v sudo >/dev/null && sudo "${ask[@]}" -v; then
            become=(sudo)
        else
            say "These Debian packages are missing: ${missing[*]}"
            say "Install them as root: apt-get install --no-install-recommends ${missing[*]}"
            exit 1
        fi
    fi
    say "Installing these Debian packages: ${missing[*]}"
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

need_swift() {
    if ! command -v swift >/dev/null; then
        say "No swift in PATH: install a Swift 6.3 toolchain (https://www.swift.org/install/linux)."
        exit 1
    fi
    local version
    version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
    case $version in
    6.[3-9] | 6.[1-9][0-9] | [7-9].* | [1-9][0-9].*) ;;
    *)
        say "Swift ${version:-of unknown version} is in PATH; 6.3 or later is needed."
        exit 1
        ;;
    esac
}

need_debian() {
    if ! command -v dpkg-query >/dev/null; then
        say "This is no Debian: install what Debian calls $* by hand, and build with swift build."
        exit 1
    fi
}

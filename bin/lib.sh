# Set-up shared by bin/demo and bin/test (POSIX sh, sourced with $root set to the checkout).
#
# Everything is done at most once: what is there already is left alone, so that a second run is quick.
# Messages go to standard error; standard output belongs to the command that is finally run.

venv=${root:?}/.venv

say() { printf 'asyncroute: %s\n' "$*" >&2; }

die() {
    printf 'asyncroute: error: %s\n' "$*" >&2
    exit 1
}

# --- the system's packages ------------------------------------------------------------------------------------------

# Runs a command as root, through sudo where needed. sudo may ask for a password only where somebody can answer.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif sudo -n true 2>/dev/null; then
        sudo -n -- "$@"
    else
        sudo -- "$@"
    fi
}

can_be_root() {
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null 2>&1 || return 1
    sudo -n true 2>/dev/null || { [ -t 0 ] && [ -t 2 ]; }
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2
}

have_package_lists() {
    for list in /var/lib/apt/lists/*_Packages*; do
        [ -e "$list" ] && return 0
    done
    return 1
}

# apt_install PACKAGE... - installs them, with fresh package lists where there are none or where they are too old.
apt_install() {
    command -v apt-get >/dev/null 2>&1 || die "please install by hand (there is no apt-get here): $*"
    can_be_root || die "please run once as root or with sudo, or install first: apt-get install $*"
    say "installing $*"
    fresh=no
    if ! have_package_lists; then
        apt -q update || die "apt-get update failed"
        fresh=yes
    fi
    apt -q install -y --no-install-recommends "$@" && return 0
    [ "$fresh" = no ] || die "apt-get could not install: $*"
    apt -q update || die "apt-get update failed"
    apt -q install -y --no-install-recommends "$@" || die "apt-get could not install: $*"
}

# --- Python ---------------------------------------------------------------------------------------------------------

# A Python that is new enough and complete: Debian ships ensurepip (needed by venv) apart, in python3-venv, and
# self-built ones often lack sqlite3 or ssl.
python_fits() {
    "$1" -c 'import sys; assert sys.version_info >= (3, 11); import ensurepip, sqlite3, ssl, venv' >/dev/null 2>&1
}

find_python() {
    for python in python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do
        if python_fits "$python"; then
            printf '%s\n' "$python"
            return 0
        fi
    done
    return 1
}

# Still this checkout's environment, not moved or copied from elsewhere, and its Python is still there.
venv_fits() {
    [ "$(cat "$venv/.asyncroute-checkout" 2>/dev/null)" = "$root" ] &&
        "$venv/bin/python" -c 'import sys; assert sys.version_info >= (3, 11); import pip' >/dev/null 2>&1
}

ensure_venv() {
    venv_fits && return 0
    [ -w "$root" ] || die "cannot write to $root, where the environment .venv belongs"
    if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
        die "$venv is no Python environment: please move it away"
    fi
    if ! python=$(find_python); then
        apt_install python3 python3-venv
        python=$(find_python) || die "Python 3.11 or newer, with venv, sqlite3 and ssl, is needed and was not found"
    fi
    say "creating the environment .venv with $("$python" --version)"
    rm -rf -- "$root/.nox" # nox's environments depend on this one's Python and place
    "$python" -m venv --clear "$venv" || die "could not create $venv"
    printf '%s\n' "$root" >"$venv/.asyncroute-checkout"
}

# pip_install NAME ARGUMENT... - pip install ARGUMENT..., unless the same was done before for the same pyproject.toml.
pip_install() {
    stamp=$venv/.asyncroute-$1
    shift
    wanted="$* $(cksum <"$root/pyproject.toml")"
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return 0
    say "installing Python packages"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-input "$@" >&2 ||
        die "pip could not install $*"
    printf '%s\n' "$wanted" >"$stamp"
}

# Activate modules, and a conda environment or a virtual environment; write the result to a file.
#
#     bash -l activate.sh FILE MARK PATH VENV CONDA_ENV [MODULE]...
#
# FILE gets texts that end in NUL: pairs of a name and a value, then, if everything is active, MARK, the variables of the
# environment, and MARK again. The output of profiles and modules never gets there. PATH is the PATH from before the
# login shell; VENV and CONDA_ENV are empty if there is none. Old versions of `module` always exit with status 0, so
# only LOADEDMODULES proves that a module is loaded.

# Reset options that the profiles of a login shell may have set; if a profile replaced the arguments, stop.
[ -f "$1" ] || exit 3
trap - EXIT ERR DEBUG
set +aefuvx
shopt -u extglob nullglob failglob
IFS=$' \t\n'

_st_file=$1 _st_mark=$2 _st_before=$3 _st_venv=$4 _st_env=$5
shift 5
_st_modules=("$@")
set --

_st_report() {
    while [ $# -gt 1 ]; do
        printf '%s\0%s\0' "$1" "$2" >>"$_st_file"
        shift 2
    done
}

# KIND WHAT: exit, and report the output of the last command and the available names.
_st_stop() {
    _st_report fault "$1" what "$2" output "$(command -p tail -c 8000 "$_st_file.output" 2>/dev/null)"
    _st_report available "$(command -p head -c 400000 "$_st_file.available" 2>/dev/null)"
    exit 3
}

_st_is_function() { [ "$(type -t "$1")" = function ]; }

# Profiles often replace PATH; append the directories that it had before.
_st_keep_path() {
    local IFS=: one
    set -f
    for one in $_st_before; do
        case ":$PATH:" in *":$one:"*) ;; *) PATH=$PATH:$one ;; esac
    done
    set +f
}

_st_find_module() {
    local init
    for init in "$MODULESHOME/init/bash" "$LMOD_PKG/init/bash" /etc/profile.d/*modules*.sh /etc/profile.d/*lmod*.sh \
        /usr/share/lmod/lmod/init/bash /usr/share/modules/init/bash /usr/share/Modules/init/bash; do
        _st_is_function module && return
        [ -r "$init" ] && . "$init" >>"$_st_file.output" 2>&1 </dev/null
    done
    _st_is_function module
}

# NAME STATUS: by its own name, as a version of it (`gcc` for gcc/12), or by another name of its version (gcc/latest).
_st_is_loaded() {
    case ":$LOADEDMODULES:" in *":$1:"* | *":$1/"*) return 0 ;; esac
    [ "$2" = 0 ] || return 1
    case ":${LOADEDMODULES#"$_st_loaded"}:" in *":${1%%/*}/"*) return 0 ;; esac
    module is-loaded "$1" >/dev/null 2>&1 && ! module is-loaded "$_st_mark" >/dev/null 2>&1
}

_st_load() {
    local one
    for one in "${_st_modules[@]}"; do
        _st_report at "module load $one"
        _st_loaded=$LOADEDMODULES
        module load "$one" >"$_st_file.output" 2>&1 </dev/null
        if ! _st_is_loaded "$one" $?; then
            module -t avail >"$_st_file.available" 2>&1 </dev/null
            _st_stop module "$one"
        fi
    done
}

# A hook must not activate the base environment by itself.
_st_quiet() { CONDA_AUTO_ACTIVATE_BASE=false CONDA_AUTO_ACTIVATE=false "$@" 2>>"$_st_file.output" </dev/null; }

# In a shell that is not interactive, conda needs its hook: one that is already defined, or from PATH, or from the usual
# places; else micromamba or mamba, which are used in the same way.
_st_find_conda() {
    local found tool
    _st_tool=conda
    _st_is_function conda && return
    for found in "$(type -P conda)" "$CONDA_EXE"; do
        [ -x "$found" ] && eval "$(_st_quiet "$found" shell.bash hook)" >/dev/null
        _st_is_function conda && return
    done
    for found in "$HOME" /opt; do
        for tool in miniconda3 anaconda3 miniforge3 mambaforge conda miniconda anaconda miniforge; do
            [ -r "$found/$tool/etc/profile.d/conda.sh" ] && . "$found/$tool/etc/profile.d/conda.sh" >/dev/null
            _st_is_function conda && return
        done
    done
    for _st_tool in micromamba mamba; do
        _st_is_function "$_st_tool" && return
        for found in "$(type -P "$_st_tool")" "$MAMBA_EXE"; do
            [ "${found##*/}" = "$_st_tool" ] && [ -x "$found" ] &&
                eval "$(_st_quiet "$found" shell hook --shell bash)" >/dev/null
            _st_is_function "$_st_tool" && return
        done
    done
    return 1
}

_st_conda() {
    _st_report at "looking for conda"
    : >"$_st_file.output"
    _st_find_conda || _st_stop conda "$_st_env"
    _st_report at "$_st_tool activate $_st_env"
    if "$_st_tool" activate "$_st_env" >"$_st_file.output" 2>&1 </dev/null &&
        { [ "$CONDA_DEFAULT_ENV" = "$_st_env" ] || [ "${CONDA_PREFIX##*/}" = "$_st_env" ]; }; then
        return
    fi
    "$_st_tool" env list >"$_st_file.available" 2>/dev/null </dev/null
    _st_stop environment "$_st_env"
}

_st_venv() {
    _st_report at "source $_st_venv/bin/activate"
    . "$_st_venv/bin/activate" >"$_st_file.output" 2>&1 </dev/null
    [ "$VIRTUAL_ENV" -ef "$_st_venv" ] || _st_stop venv "$_st_venv"
}

_st_keep_path
if [ "${#_st_modules[@]}" -gt 0 ]; then
    _st_report at "looking for the module command"
    _st_find_module || _st_stop modules "${_st_modules[*]}"
    _st_load
fi
if [ -n "$_st_venv" ]; then _st_venv; elif [ -n "$_st_env" ]; then _st_conda; fi
_st_report at "reading the environment"
printf '%s\0' "$_st_mark" >>"$_st_file"
command -p env -0 >>"$_st_file"
printf '%s\0' "$_st_mark" >>"$_st_file"

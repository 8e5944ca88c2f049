# SPDX-License-Identifier: Apache-2.0
# pare: GNU make. `make` builds, `make demo` shows, `make check` tests. File suffixes pick compiler flags (%_avx2.c,
# %_avx512.c, %_vnni.c, %_amx.c), so no kernel is named here.
B       ?= build
CC      := gcc
PREFIX  ?= /usr/local
DESTDIR ?=
V       ?= 0

ROOMS   := core graph cpu formats models calib quant prune distill verify api
SRC     := $(wildcard $(addsuffix /*.c,$(ROOMS)))
TOOLS   := $(wildcard tools/*.c)
UNIT    := $(wildcard tests/unit/test_*.c)
FUZZERS := $(wildcard tests/fuzz/fuzz_*.c)

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wno-unused-parameter -Wvla
BASE    := -std=gnu17 -O3 -g -fopenmp -ffp-contract=off -fno-math-errno -fPIC -fvisibility=hidden $(WARN) -Iinclude -I. -I$(B)
# What plug-ins and host must agree on: a sum over the headers that both are built from.
BUILD_ID := $(shell cat core/*.h core/*.def include/pare/* | cksum | tr ' ' -)
LIBS    := -lopenblas -ljansson -lpcre2-8 -lutf8proc -lz -lm -ldl
OPT     :=

# SAN=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer into its own folder.
ifdef SAN
override B := $(B)/san
OPT     += -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif

LIBOBJ  := $(SRC:%.c=$(B)/%.o)
BIN     := $(B)/pare
LIBA    := $(B)/libpare.a
LIBSO   := $(B)/libpare.so
TESTS   := $(UNIT:tests/unit/%.c=$(B)/tests/%)
FUZZBIN := $(FUZZERS:tests/fuzz/%.c=$(B)/fuzz/%)

Q := $(if $(filter 1,$(V)),,@)

.PHONY: all emu demo check check-long check-gpu check-mutants check-peers bench bench-gpu fuzz fuzz-replay lint format install uninstall clean setup tests san help
all: $(BIN) $(LIBSO)

$(B)/%_avx2.o:   OPT += -mavx2 -mfma -mf16c
$(B)/%_avx512.o: OPT += -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl
$(B)/%_vnni.o:   OPT += -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
$(B)/%_vbmi2.o:  OPT += -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512vbmi -mavx512vbmi2 -mbmi2
$(B)/%_bf16.o:   OPT += -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16
$(B)/%_amx.o:    OPT += -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16 -mamx-tile -mamx-int8 -mamx-bf16

$(B)/core/plugin.o: OPT += -DPARE_BUILD_ID='"$(BUILD_ID)"'
$(B)/core/plugin.o: $(wildcard core/*.h core/*.def include/pare/*)

$(B)/verify/builtin.o: $(wildcard verify/data/*)
$(B)/calib/calib_text.o: $(wildcard calib/data/*)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  cc    $<"
	$(Q)$(CC) $(BASE) $(OPT) $(CFLAGS) -MMD -MP -c $< -o $@

$(LIBA): $(LIBOBJ)
	@echo "  ar    $@"
	$(Q)rm -f $@ && ar rcs $@ $^

$(LIBSO): $(LIBOBJ)
	@echo "  ld    $@"
	$(Q)$(CC) -shared -Wl,-soname,libpare.so.0 $(OPT) -fopenmp $^ -o $@ $(LIBS)

$(BIN): $(TOOLS:%.c=$(B)/%.o) $(LIBA)
	@echo "  ld    $@"
	$(Q)$(CC) $(OPT) -fopenmp $^ -o $@ $(LIBS)

# ---- CUDA: libpare-cuda.so where nvcc is found; the same kernels on the host for tests (cuda/emu/) ----
NVCC       ?= $(firstword $(wildcard $(shell command -v nvcc 2>/dev/null) /usr/local/cuda/bin/nvcc))
CUDA_ARCHS ?= 75 80 86 89 90a
CUDA_PTX   ?= 90
CUDA_SRC   := $(wildcard cuda/*.cu)
CUDA_HDR   := $(wildcard cuda/*.cuh cuda/*.def cuda/emu/*.h core/*.h core/*.def include/pare/*)
# One folder per set of targets, so that `make check` (fewer) and `make` do not mix.
CB         := $(B)/cuda-$(subst $() $(),-,$(CUDA_ARCHS))
CUDA_OBJ   := $(CUDA_SRC:cuda/%.cu=$(CB)/%.o)
CUDA_GEN   := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) $(foreach a,$(CUDA_PTX),-gencode arch=compute_$(a),code=compute_$(a))
CUDA_FLAGS := -std=c++17 -O3 -lineinfo -fmad=false -Iinclude -I. -DPARE_BUILD_ID='"$(BUILD_ID)"' -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wno-unused-parameter
# Code for five architectures is 200 MB, compressed 40 (nvcc 12.4 and later; the driver unpacks what it loads).
CUDA_FLAGS += $(if $(NVCC),$(shell $(NVCC) --help 2>/dev/null | grep -q -- --compress-mode && echo --compress-mode=size))
CUDA_SO    := $(if $(NVCC),$(B)/libpare-cuda.so)
all: $(CUDA_SO)

# Hopper's own kernels; without 90a among the targets they are empty and never launched.
SM90_GEN   := -DPARE_SM90A -gencode arch=compute_90a,code=sm_90a
SM90_NONE  := -gencode arch=compute_90,code=compute_90
$(CB)/%_sm90.o: CUDA_GEN := $(if $(filter 90a,$(CUDA_ARCHS)),$(SM90_GEN),$(SM90_NONE))
$(CB)/%.o: cuda/%.cu $(CUDA_HDR)
	@mkdir -p $(@D)
	@echo "  nvcc  $<"
	$(Q)$(NVCC) $(CUDA_FLAGS) $(NVCCFLAGS) $(CUDA_GEN) -c $< -o $@

# Linked under the name of its set, then copied, so that a change of the set relinks.
$(CB)/libpare-cuda.so: $(CUDA_OBJ)
	@echo "  ld    $(B)/libpare-cuda.so"
	$(Q)$(NVCC) -shared -cudart static -Xcompiler -fPIC -Xlinker --exclude-libs,ALL $^ -o $@ -ldl -lpthread -lrt
$(B)/libpare-cuda.so: $(CB)/libpare-cuda.so
	$(Q)cp $< $@

# ---- MPI: libpare-mpi.so where mpicc is found ----
MPICC  ?= $(shell command -v mpicc 2>/dev/null)
MPI_SO := $(if $(MPICC),$(B)/libpare-mpi.so)
all: $(MPI_SO)
$(B)/libpare-mpi.so: mpi/mpi.c $(wildcard core/*.h core/*.def include/pare/*)
	@mkdir -p $(@D)
	@echo "  mpicc $<"
	$(Q)OMPI_CC=$(CC) $(MPICC) $(BASE) $(OPT) $(CFLAGS) -DPARE_BUILD_ID='"$(BUILD_ID)"' -shared $< -o $@ -ldl

EMU_OBJ    := $(patsubst cuda/%.cu,$(B)/emu/%.o,$(filter-out cuda/rt.cu,$(CUDA_SRC))) $(B)/emu/emu.o
EMU_SO     := $(B)/libpare-cuda-emu.so
EMU_FLAGS  := -std=gnu++17 -O2 -g -fopenmp -ffp-contract=off -fno-strict-aliasing -fPIC -fvisibility=hidden -Wall -Wno-unused-parameter -Wno-unused-function -Wno-unknown-pragmas \
              -DPARE_EMU -Iinclude -I. -DPARE_BUILD_ID='"$(BUILD_ID)"'
$(B)/emu/%.o: cuda/%.cu $(CUDA_HDR)
	@mkdir -p $(@D)
	@echo "  emu   $<"
	$(Q)g++ -x c++ $(EMU_FLAGS) $(CXXFLAGS) -c $< -o $@
$(B)/emu/emu.o: cuda/emu/emu.cc $(CUDA_HDR)
	@mkdir -p $(@D)
	$(Q)g++ $(EMU_FLAGS) $(CXXFLAGS) -c $< -o $@
$(EMU_SO): $(EMU_OBJ)
	@echo "  ld    $@"
	$(Q)g++ -shared -fopenmp $^ -o $@
emu: $(EMU_SO)

# ---- make bench-gpu: the CUDA objects and a table; needs a card, nvcc and gcc, and none of the project's libraries ----
BENCH_GPU  := $(patsubst tests/gpu/%.cu,%,$(wildcard tests/gpu/*.cu))
BENCH_HOST := $(patsubst %.c,$(B)/%.o,$(wildcard core/*.c) $(filter-out quant/plan.c quant/method%,$(wildcard quant/*.c)))
$(B)/bench-gpu.a: $(BENCH_HOST)
	$(Q)rm -f $@ && ar rcs $@ $^
$(CB)/tests/%.o: tests/gpu/%.cu tests/gpu/bench.cuh $(CUDA_HDR)
	@mkdir -p $(@D)
	@echo "  nvcc  $<"
	$(Q)$(NVCC) $(CUDA_FLAGS) $(CUDA_GEN) -c $< -o $@
$(CB)/bench-gpu: $(BENCH_GPU:%=$(CB)/tests/%.o) $(CUDA_OBJ) $(B)/bench-gpu.a
	@echo "  ld    $@"
	$(Q)$(NVCC) -cudart static -Xcompiler -fopenmp $^ -o $@ -ldl -lpthread -lrt -lm
$(B)/emu/tests/%.o: tests/gpu/%.cu tests/gpu/bench.cuh $(CUDA_HDR)
	@mkdir -p $(@D)
	@echo "  emu   $<"
	$(Q)g++ -x c++ $(EMU_FLAGS) $(CXXFLAGS) -c $< -o $@
$(B)/emu/bench-gpu: $(BENCH_GPU:%=$(B)/emu/tests/%.o) $(EMU_OBJ) $(B)/bench-gpu.a
	@echo "  ld    $@"
	$(Q)g++ -fopenmp $^ -o $@ -ldl -lm
# The card's own architecture, or Hopper's where there is none to ask.
GPU_CAP  = $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
GPU_ARCH = $(if $(GPU_CAP),$(if $(filter 90,$(GPU_CAP)),90a,$(GPU_CAP)),90a)
bench-gpu:
	@[ -n "$(NVCC)" ] || { echo "bench-gpu: nvcc (the CUDA toolkit) is not here" >&2; exit 4; }
	@arch=$(GPU_ARCH) && $(MAKE) --no-print-directory -j$$(nproc) CUDA_ARCHS=$$arch $(B)/cuda-$$arch/bench-gpu && \
	    $(B)/cuda-$$arch/bench-gpu --out $(B)/bench-gpu.json

$(B)/tests/%: tests/unit/%.c $(LIBA)
	@mkdir -p $(@D)
	@echo "  test  $*"
	$(Q)$(CC) $(BASE) $(OPT) $(CFLAGS) -MMD -MP -Itests/unit $< -o $@ $(LIBA) -lcmocka $(LIBS)

# Programs that a test step feeds with data made elsewhere.
$(B)/tests/tools/%: tests/tools/%.c $(LIBA)
	@mkdir -p $(@D)
	@echo "  test  $*"
	$(Q)$(CC) $(BASE) $(OPT) $(CFLAGS) -MMD -MP $< -o $@ $(LIBA) $(LIBS)

# What a bare machine with a GPU can build: no package but libc, libm, OpenMP.
DEV_OBJ := $(patsubst %.c,$(B)/%.o,$(filter-out quant/plan.c quant/method%,$(wildcard core/*.c cpu/*.c quant/*.c graph/*.c)))
PARITY  := $(patsubst tests/tools/%.c,$(B)/tests/tools/%.o,$(wildcard tests/tools/parity_*.c) tests/tools/device_parity.c)
$(B)/tests/tools/device_parity: $(PARITY) $(DEV_OBJ)
	@echo "  ld    $@"
	$(Q)$(CC) $(OPT) -fopenmp $^ -o $@ -lm -ldl

$(B)/tests/tools/device_update: $(B)/tests/tools/device_update.o $(B)/distill/optim.o $(DEV_OBJ)
	@echo "  ld    $@"
	$(Q)$(CC) $(OPT) -fopenmp $^ -o $@ -lm -ldl

# A plug-in that tests load in the place of a GPU's; its copy of the library stays inside.
$(B)/tests/tools/%.so: tests/tools/%.c $(LIBA)
	@mkdir -p $(@D)
	@echo "  test  $*"
	$(Q)$(CC) $(BASE) $(OPT) $(CFLAGS) -DPARE_BUILD_ID='"$(BUILD_ID)"' -MMD -MP -shared -Wl,-Bsymbolic -Wl,--exclude-libs,ALL $< -o $@ $(LIBA) $(LIBS)

tests: $(TESTS)

# Fuzz targets twice: with gcc, the mutations of tests/fuzz/replay.c and SAN=1 (make check), and with clang's libFuzzer.
REPLAY  := $(FUZZERS:tests/fuzz/%.c=$(B)/fuzz-replay/%)
$(B)/fuzz-replay/%: tests/fuzz/%.c tests/fuzz/replay.c $(LIBA)
	@mkdir -p $(@D)
	@echo "  fuzz  $*"
	$(Q)$(CC) $(BASE) $(OPT) $(CFLAGS) -MMD -MP -MF $@.d -Itests/fuzz $< tests/fuzz/replay.c -o $@ $(LIBA) $(LIBS)
fuzz-replay: $(REPLAY)

FUZZ_SECONDS ?= 60
FUZZ_CC      ?= clang
FUZZ_FLAGS   := -std=gnu17 -O1 -g -fopenmp -ffp-contract=off -Iinclude -I. -I$(B) -Itests/fuzz -fno-omit-frame-pointer -fno-sanitize-recover=undefined
FUZZ_OBJ     := $(patsubst %.c,$(B)/fuzz-obj/%.o,$(wildcard core/*.c formats/*.c quant/*.c verify/*.c) api/verify_data.c)
$(B)/fuzz-obj/%_avx2.o:   OPT += -mavx2 -mfma -mf16c
$(B)/fuzz-obj/%_avx512.o: OPT += -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl
$(B)/fuzz-obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  fuzz  $<"
	$(Q)$(FUZZ_CC) $(FUZZ_FLAGS) $(OPT) -fsanitize=fuzzer-no-link,address,undefined -MMD -MP -c $< -o $@
$(B)/fuzz-obj/libpare.a: $(FUZZ_OBJ)
	$(Q)rm -f $@ && ar rcs $@ $^
$(B)/fuzz/%: tests/fuzz/%.c $(B)/fuzz-obj/libpare.a
	@mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer,address,undefined $< -o $@ $(B)/fuzz-obj/libpare.a $(LIBS)
fuzz:
	@sh tools/setup.sh fuzz
	@$(MAKE) --no-print-directory $(FUZZBIN)
	@$(MAKE) --no-print-directory SAN=1 fuzz-replay
	@sh tests/fuzz.sh $(B) $(FUZZ_SECONDS)

setup:
	@sh tools/setup.sh build

demo:
	@sh tools/setup.sh demo
	@$(MAKE) --no-print-directory $(BIN) $(LIBSO)
	@sh tools/demo.sh $(B)

check:
	@sh tools/setup.sh check
	@sh tests/check.sh $(B)

check-long:
	@sh tools/setup.sh check
	@LONG=1 sh tests/check.sh $(B)

check-gpu:
	@sh tests/check_gpu.sh $(B) $(or $(NVCC),nvcc)

# Mistakes in the CUDA kernels, one at a time: does a test see them?
check-mutants:
	@sh tests/check_mutants.sh $(B) $(MUTANTS)

check-peers:
	@sh tools/setup.sh peers
	@sh tests/check_peers.sh $(B)

bench: all
	@$(BIN) bench

lint:
	@sh tests/lint.sh full

format:
	@clang-format -i $$(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cc')

MAN     := $(B)/pare.1
$(MAN): $(BIN) tools/mkman.sh
	$(Q)sh tools/mkman.sh $(BIN) >$@.tmp && mv $@.tmp $@

install: all $(MAN)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/include/pare \
	    $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/pare
	install -m 644 $(LIBA) $(DESTDIR)$(PREFIX)/lib/libpare.a
	install -m 755 $(LIBSO) $(DESTDIR)$(PREFIX)/lib/libpare.so.0
	ln -sf libpare.so.0 $(DESTDIR)$(PREFIX)/lib/libpare.so
	$(if $(CUDA_SO),install -m 755 $(CUDA_SO) $(DESTDIR)$(PREFIX)/lib/libpare-cuda.so)
	$(if $(MPI_SO),install -m 755 $(MPI_SO) $(DESTDIR)$(PREFIX)/lib/libpare-mpi.so)
	install -m 644 include/pare/*.h include/pare/status.def $(DESTDIR)$(PREFIX)/include/pare/
	install -m 644 $(MAN) $(DESTDIR)$(PREFIX)/share/man/man1/pare.1
	install -m 644 tools/completion/pare.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pare
	printf 'Name: pare\nDescription: makes trained models smaller and proves they still work\nVersion: %s\nLibs: -L%s/lib -lpare\nLibs.private: -fopenmp %s\nCflags: -I%s/include\n' \
	    "$$(sed -n 's/.*PARE_VERSION "\(.*\)"/\1/p' include/pare/pare.h)" $(PREFIX) "$(LIBS)" $(PREFIX) >$(DESTDIR)$(PREFIX)/lib/pkgconfig/pare.pc

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/pare $(DESTDIR)$(PREFIX)/lib/libpare.* $(DESTDIR)$(PREFIX)/lib/libpare-cuda.so $(DESTDIR)$(PREFIX)/lib/libpare-mpi.so $(DESTDIR)$(PREFIX)/lib/pkgconfig/pare.pc \
	    $(DESTDIR)$(PREFIX)/share/man/man1/pare.1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pare
	rm -rf $(DESTDIR)$(PREFIX)/include/pare

clean:
	rm -rf $(B)

-include $(LIBOBJ:.o=.d) $(TOOLS:%.c=$(B)/%.d) $(TESTS:=.d) $(wildcard $(B)/tests/tools/*.d) $(PARITY:.o=.d) $(REPLAY:=.d) $(FUZZ_OBJ:.o=.d)

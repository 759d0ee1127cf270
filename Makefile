# becket for C people. `make help` lists the goals. GNU make.
#
# Everything that is made goes to build/ (and cargo's own target/ for `make test`); no goal but `header` changes a file
# that is committed. The archive has a cargo target folder of its own, so that it never waits for a running `cargo test`.

CARGO  ?= cargo
CC     ?= cc
CFLAGS ?= -O2 -g
# `make WERROR=` for a compiler that knows more warnings than ours.
WERROR ?= -Werror
PREFIX ?= /usr/local
DESTDIR ?=

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

C_FLAGS  = -std=c11 $(CFLAGS) -Wall -Wextra -Wpedantic -Wconversion $(WERROR) -Iinclude
# AIO=1: with POSIX AIO for files (feature `aio`: it may allocate), and beside the default build, so that either stays.
AIO     ?=
FEATURES = capi$(if $(AIO),$(COMMA)aio)
COMMA   := ,
BUILD    = build$(if $(AIO),/aio)
ARCHIVE  = $(BUILD)/libbecket.a
EXAMPLES = $(patsubst c-examples/%.c,$(BUILD)/examples/%,$(filter-out $(SKIPPED),$(wildcard c-examples/*.c)))
# What needs a library that is not there: the compiler is asked to link with it.
SKIPPED := $(shell echo 'int main(void) { return !EV_VERSION_MAJOR; }' | \
             $(CC) $(CFLAGS) -include ev.h -x c - -lev -o /dev/null >/dev/null 2>&1 || echo c-examples/libev.c)
ifneq ($(SKIPPED),)
ifneq ($(filter all programs run test,$(or $(MAKECMDGOALS),all)),)
$(info skipped: c-examples/libev.c (install libev-dev))
endif
endif
# One program a file, but: the two halves of `header`, and the interposers, which are shared objects.
TESTS    = $(patsubst tests/c/%.c,$(BUILD)/tests/%,\
             $(filter-out tests/c/header_a.c tests/c/header_b.c tests/c/count_malloc.c tests/c/interpose_%.c,$(wildcard tests/c/*.c))) \
           $(if $(wildcard tests/c/header_a.c),$(BUILD)/tests/header) \
           $(patsubst tests/c/%.c,$(BUILD)/tests/%.so,$(wildcard tests/c/count_malloc.c tests/c/interpose_faults.c))

# A profile of its own (Cargo.toml), as a static library; the cfg adds the panic handler that a C program lacks.
# SMALL=1 optimizes for size: a fifth less code, and about twice the time that becket itself takes for an event.
SMALL ?=
ifneq ($(SMALL),)
export CARGO_PROFILE_CAPI_OPT_LEVEL = z
endif
# Another system: make TARGET=aarch64-unknown-linux-gnu CC=aarch64-linux-gnu-gcc
TARGET ?=
CARGO_ARCHIVE = $(CARGO) rustc --quiet --locked --lib --profile capi --crate-type staticlib $(if $(TARGET),--target $(TARGET))
RUSTC_ARCHIVE = --cfg becket_staticlib $(if $(SMALL),--cfg becket_small)
RUST_SOURCES := Cargo.toml Cargo.lock build.rs $(shell find -H src -name '*.rs')

.DELETE_ON_ERROR:
.PHONY: all archive programs aio run test soak fuzz loom cross coverage faults storm torture tsan mutants header size install uninstall clean help FORCE

all: $(ARCHIVE) $(EXAMPLES)

archive: $(ARCHIVE)

programs: $(ARCHIVE) $(EXAMPLES) $(TESTS) aio

# What the tests run with POSIX AIO, where the C library has it.
WITH_AIO = libbecket.a tests/aio tests/fallback tests/faults_operations tests/operations examples/httpd
aio:
ifeq ($(AIO),)
	@if echo 'int main(void) { return aio_error(&(struct aiocb){0}) * !__GLIBC__; }' | \
	  $(CC) $(CFLAGS) -D_GNU_SOURCE -include aio.h -x c - -o /dev/null >/dev/null 2>&1; \
	then $(MAKE) --no-print-directory AIO=1 $(addprefix build/aio/,$(WITH_AIO)); \
	else echo 'skipped: POSIX AIO (install glibc)'; fi
endif

# cargo decides what to compile; the copy has a new time stamp only when there is something new.
$(ARCHIVE): $(RUST_SOURCES) $(BUILD)/flags
	@echo "cargo  $@"
	@mkdir -p $(BUILD)
	@$(CARGO_ARCHIVE) --target-dir $(BUILD)/cargo --features $(FEATURES) -- $(RUSTC_ARCHIVE)
	@cp $(BUILD)/cargo/$(if $(TARGET),$(TARGET)/)capi/libbecket.a $@

# The smallest build: poll alone, for size. Only `make size` uses it.
build/libbecket-poll.a: export CARGO_PROFILE_CAPI_OPT_LEVEL = z
build/libbecket-poll.a: SMALL = 1
build/libbecket-poll.a: $(RUST_SOURCES)
	@echo "cargo  $@"
	@mkdir -p build
	@$(CARGO_ARCHIVE) --target-dir build/cargo-poll --no-default-features --features capi,poll -- $(RUSTC_ARCHIVE)
	@cp build/cargo-poll/$(if $(TARGET),$(TARGET)/)capi/libbecket.a $@

# Another compiler or other flags: everything in C is made again. (While make reads this file, and not by a rule, so that
# -n and -q tell the truth.)
$(shell mkdir -p $(BUILD); echo '$(CC) $(C_FLAGS) $(LDFLAGS) $(LDLIBS) $(SMALL) $(TARGET)' > $(BUILD)/flags.now; \
        cmp -s $(BUILD)/flags.now $(BUILD)/flags || cp $(BUILD)/flags.now $(BUILD)/flags; rm -f $(BUILD)/flags.now)

# -MMD notes the headers of each program beside it.
$(BUILD)/examples/%: c-examples/%.c $(ARCHIVE) $(BUILD)/flags
	@echo "cc     $@"
	@mkdir -p $(@D)
	@$(CC) $(C_FLAGS) -MMD -MP -MT $@ -MF $@.d $< $(ARCHIVE) $(LDFLAGS) $(LIBRARIES) $(THREADS) $(LDLIBS) -o $@

$(BUILD)/tests/%: tests/c/%.c $(ARCHIVE) $(BUILD)/flags
	@echo "cc     $@"
	@mkdir -p $(@D)
	@$(CC) $(C_FLAGS) -MMD -MP -MT $@ -MF $@.d $< $(LINKED) $(ARCHIVE) $(LDFLAGS) $(THREADS) $(LDLIBS) -o $@

# These have what stands between them and the C library in themselves, and can call it.
WITH_FAULTS = $(BUILD)/tests/faults $(BUILD)/tests/faults_operations $(BUILD)/tests/faults_streams $(BUILD)/tests/storm
$(WITH_FAULTS): LINKED = $(BUILD)/tests/interpose_faults.o
$(WITH_FAULTS): $(BUILD)/tests/interpose_faults.o
$(BUILD)/tests/interpose_faults.o: tests/c/interpose_faults.c tests/c/interpose_faults.h $(BUILD)/flags
	@echo "cc     $@"
	@mkdir -p $(@D)
	@$(CC) $(C_FLAGS) -c $< -o $@

# Two translation units that both include the header, in one program.
$(BUILD)/tests/header: tests/c/header_a.c tests/c/header_b.c include/becket.h $(ARCHIVE) $(BUILD)/flags
	@echo "cc     $@"
	@mkdir -p $(@D)
	@$(CC) $(C_FLAGS) tests/c/header_a.c tests/c/header_b.c $(ARCHIVE) $(LDFLAGS) $(THREADS) $(LDLIBS) -o $@

# Loaded by LD_PRELOAD into programs: one counts the calls of the allocator, one makes calls fail.
$(BUILD)/tests/interpose_faults.so: tests/c/interpose_faults.h
$(BUILD)/tests/%.so: tests/c/%.c $(BUILD)/flags
	@echo "cc     $@"
	@mkdir -p $(@D)
	@$(CC) $(C_FLAGS) -fPIC -shared $< $(LDFLAGS) -o $@

# becket needs no thread library; these start threads of their own.
$(BUILD)/examples/wake $(filter-out %.so,$(TESTS)): THREADS = -pthread
$(BUILD)/examples/libev: LIBRARIES = -lev

-include $(wildcard $(BUILD)/examples/*.d $(BUILD)/tests/*.d)

run: all
	@exec $(BUILD)/examples/httpd --root c-examples/site --port 8080 $(ARGS)

# `--all-features` for the header test: it compares include/becket.h with what cbindgen makes now. Some tests call make
# again: by the environment they get the same compiler and flags, and no job server.
FOR_TESTS = MAKEFLAGS= CC='$(CC)' CFLAGS='$(CFLAGS)' WERROR='$(WERROR)' LDFLAGS='$(LDFLAGS)' LDLIBS='$(LDLIBS)'

test: programs
	$(FOR_TESTS) $(CARGO) test --locked --all-features --no-fail-fast

# Random programs against the model (tests/model.rs), on all cores. BACKEND: on this one alone (select, poll, epoll, io_uring,
# simulator); BECKET_SEED: the first seed, else a random one; SOAK_STEPS: no more steps than that.
soak:
	@SECONDS='$(SECONDS)' BACKEND='$(BACKEND)' $(CARGO) test --locked --quiet --release --test model -- --ignored --exact soak --nocapture

# All fuzz targets, SECONDS in all. SEED: where libFuzzer's random choices begin; 0: anywhere.
SECONDS ?= 60
SEED ?= 0
fuzz:
	@CC='$(CC)' sh fuzz/run.sh '$(SECONDS)' '$(SEED)'

# The lock-free part under loom: every interleaving of a few threads. LOOM_MAX_PREEMPTIONS=4 searches further, for minutes.
loom:
	$(CARGO) test --locked --quiet --manifest-path tests/loom/Cargo.toml --target-dir build/loom

# Which lines of src the tests run.
coverage:
	@tests/coverage.sh

# The code is broken in every small way, one at a time: which ways no test notices. (.cargo/mutants.toml: what, and by which
# tests.) Hours for everything; FILES: only in these. The answer is in build/mutants.out.
FILES ?= src/storage/** src/engine/**
mutants:
	@if ! $(CARGO) mutants --version > /dev/null 2>&1; then \
	  echo 'skipped: mutants (install cargo-mutants: cargo install cargo-mutants --locked)'; exit 0; fi; \
	mkdir -p build; CARGO_PROFILE_DEV_DEBUG=0 BECKET_SHRINK=0 $(CARGO) mutants $(patsubst %,--file '%',$(FILES)) $(ARGS)

# Other targets: compiled, and where there is an emulator, tested.
cross:
	@tests/cross.sh check
	@tests/cross.sh test

# All that `make test` tries a sample of: each call that fails, for each reason, under each program.
faults: programs
	BECKET_FAULTS_ALL=1 build/tests/faults_operations
	BECKET_FAULTS_ALL=1 build/tests/faults_streams
	@if [ -x build/aio/tests/faults_operations ]; then \
	  set -x; BECKET_FAULTS_ALL=1 build/aio/tests/faults_operations; fi
	$(FOR_TESTS) BECKET_FAULTS_ALL=1 $(CARGO) test --locked --all-features --test faults -- --nocapture

# The wakes of `make test`, for much longer. ROUNDS: of each of the four threads, on each backend.
ROUNDS ?= 500000
storm: build/tests/storm
	BECKET_STORM_ROUNDS=$(ROUNDS) build/tests/storm

# Servers whose clients behave as badly as they can (tests/torture.rs): each torture for SECONDS on each server and backend, about
# an hour with 60; BYTES through three proxies in a row; BACKEND: on this one alone. ARGS: of these tests alone.
BYTES ?= 1G
torture:
	@$(FOR_TESTS) TORTURE_SECONDS='$(SECONDS)' TORTURE_BYTES='$(BYTES)' TORTURE_BACKEND='$(BACKEND)' \
	  $(CARGO) test --locked --quiet --release --test torture -- --nocapture --test-threads=1 $(ARGS)

# The storm under gcc's ThreadSanitizer, the library too: that takes a nightly compiler.
TSAN = RUSTUP_TOOLCHAIN=nightly
tsan: build/tests/interpose_faults.o
	@if ! $(TSAN) $(CARGO) --version 2>&1 | grep -q nightly; then \
	  echo 'skipped: ThreadSanitizer (install nightly Rust: rustup toolchain install nightly)'; exit 0; fi; set -ex; \
	target=$$($(TSAN) rustc -vV | sed -n 's/^host: //p'); \
	$(TSAN) RUSTFLAGS='-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer' $(CARGO_ARCHIVE) --target $$target \
	  --target-dir build/cargo-tsan --features capi -- $(RUSTC_ARCHIVE); \
	$(CC) $(C_FLAGS) -fsanitize=thread tests/c/storm.c tests/c/interpose_tsan.c build/tests/interpose_faults.o \
	  build/cargo-tsan/$$target/capi/libbecket.a $(LDFLAGS) -pthread $(LDLIBS) -o build/tests/storm-tsan; \
	build/tests/storm-tsan

# Regenerates the committed header. The test that compares it writes it when it is told to.
header:
	BECKET_BLESS=1 $(CARGO) test --locked --quiet --all-features --test header

size: build/libbecket-poll.a
	@CC='$(CC)' sh tests/size.sh build/libbecket-poll.a

build/becket.pc: becket.pc.in Cargo.toml FORCE
	@mkdir -p build
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' $< > $@

install: $(ARCHIVE) build/becket.pc
	install -d '$(DESTDIR)$(PREFIX)/lib/pkgconfig' '$(DESTDIR)$(PREFIX)/include'
	install -m 644 $(ARCHIVE) '$(DESTDIR)$(PREFIX)/lib/libbecket.a'
	install -m 644 include/becket.h '$(DESTDIR)$(PREFIX)/include/becket.h'
	install -m 644 build/becket.pc '$(DESTDIR)$(PREFIX)/lib/pkgconfig/becket.pc'

uninstall:
	rm -f '$(DESTDIR)$(PREFIX)/lib/libbecket.a' '$(DESTDIR)$(PREFIX)/include/becket.h' \
	      '$(DESTDIR)$(PREFIX)/lib/pkgconfig/becket.pc'

clean:
	rm -rf build
	$(CARGO) clean --quiet

help:
	@echo 'make            build/libbecket.a and the C examples, build/examples/*'
	@echo 'make run        build, and serve c-examples/site on http://127.0.0.1:8080/'
	@echo 'make test       every test, C and Rust; ends with an error when one fails'
	@echo 'make soak       random programs against a model, on all cores, for SECONDS=60; BACKEND='
	@echo 'make fuzz       the fuzz targets, for SECONDS=60 in all'
	@echo 'make loom       wakes, stops, signals and sleep, in every interleaving of a few threads'
	@echo 'make cross      compile for other systems and processors, and run the tests in emulators of these'
	@echo 'make faults     fail every call for every reason under every program: half an hour'
	@echo 'make storm      wakes from threads and signals for a minute; ROUNDS=$(ROUNDS)'
	@echo 'make tsan       the same under ThreadSanitizer, with nightly Rust'
	@echo 'make torture    servers under clients that are slow, break off, or come in thousands; SECONDS=60 BYTES=1G BACKEND='
	@echo 'make coverage   how much of each file of src the tests run'
	@echo 'make mutants    break engine and storage in every small way, and see that a test fails; FILES=src/...'
	@echo 'make programs   the examples and the C test programs, build/tests/*'
	@echo 'make archive    build/libbecket.a alone'
	@echo 'make size       what becket adds to a program, in bytes'
	@echo 'make header     generate include/becket.h anew from src/ffi'
	@echo 'make install    lib/libbecket.a, include/becket.h, lib/pkgconfig/becket.pc; PREFIX=$(PREFIX) DESTDIR='
	@echo 'make uninstall  remove these three files'
	@echo 'make clean      remove build/ and target/'
	@echo
	@echo 'CC, CFLAGS, LDFLAGS, LDLIBS, CARGO, WERROR can be set: make CC=clang CFLAGS=-O3'
	@echo 'TARGET=, with CC=, builds for another system: make TARGET=aarch64-unknown-linux-gnu CC=aarch64-linux-gnu-gcc'
	@echo 'AIO=1 builds all in build/aio/, with POSIX AIO for files where there is no io_uring'
	@echo 'SMALL=1 makes the archive a fifth smaller, and slower'

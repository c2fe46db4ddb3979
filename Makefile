# EmbSum's scoring service. `make help` lists what can be made.
#
#   make                 build/embsumd and build/embsum
#   make check           every test
#   V=1                  show the commands       BUILD=dir   build elsewhere
#   MODE=release|debug|asan|tsan                 debug, asan and tsan turn warnings into errors; fuzz and cover are make fuzz's
#   WITH_MPI=0           training on one machine only, although Open MPI is there

MODE ?= release
BUILD ?= build
PREFIX ?= /usr/local
PKG_CONFIG ?= pkg-config
VERSION := 0.1.0

# ---- flags ----------------------------------------------------------------------------------------------

WARN := -Wall -Wextra -Wconversion -Wshadow -Wformat=2 -Wimplicit-fallthrough -Wpointer-arith -Wundef \
        -Wcast-qual -Wtrampolines -Wvla -Werror=format-security
WARN_C := -Wstrict-prototypes -Wmissing-prototypes -Wbad-function-cast \
          -Werror=implicit -Werror=incompatible-pointer-types -Werror=int-conversion
# Hardening (the OpenSSF guide's set, as far as gcc 12 knows it)
HARDEN := -fstack-protector-strong -fstack-clash-protection -fno-delete-null-pointer-checks \
          -fno-strict-overflow -fno-strict-aliasing -ftrivial-auto-var-init=zero -fPIE
ifeq ($(shell uname -m),x86_64)
HARDEN += -fcf-protection=full
endif
HARDEN_LD := -pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,nodlopen -Wl,--as-needed

OPT_release := -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
OPT_debug := -Og -Werror -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
OPT_asan := -O1 -Werror -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
OPT_tsan := -O1 -Werror -fno-omit-frame-pointer -fsanitize=thread
OPT_fuzz := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
OPT_cover := -Og -fprofile-instr-generate -fcoverage-mapping
LD_asan := -fsanitize=address,undefined
LD_tsan := -fsanitize=thread
LD_fuzz := -fsanitize=fuzzer,address,undefined
LD_cover := -fprofile-instr-generate
ifeq ($(OPT_$(MODE)),)
$(error MODE=$(MODE): use release, debug, asan, tsan, fuzz or cover)
endif
CLANG := $(filter fuzz cover,$(MODE))
ifneq ($(CLANG),) # by clang, which does not know all of gcc's flags
CC := clang
CXX := clang++
WARN := -Wall -Wextra -Wno-format-zero-length
WARN_C :=
HARDEN := -fPIE
endif

CPPFLAGS += -I. -D_GNU_SOURCE -DEMBSUM_VERSION='"$(VERSION)"' -MMD -MP \
            $(shell $(PKG_CONFIG) --cflags libmicrohttpd jansson openblas hiredis libxxhash nettle sentencepiece libcurl)
CFLAGS += -std=c11 -g $(OPT_$(MODE)) $(WARN) $(WARN_C) $(HARDEN) -pthread
CXXFLAGS += -std=c++17 -g $(OPT_$(MODE)) $(WARN) $(HARDEN) -pthread
LDFLAGS += $(HARDEN_LD) $(LD_$(MODE)) -pthread
# The mathematics: elementwise loops are written to be vectorised.
CFLAGS_core := $(if $(filter release,$(MODE)),-O3) -fno-math-errno -fno-trapping-math

# Open MPI where it is installed. Its header alone is needed here: batch/ranks.c opens the library when mpirun is there.
MPI_CFLAGS := $(shell $(PKG_CONFIG) --cflags ompi-c 2>/dev/null)
WITH_MPI ?= $(if $(MPI_CFLAGS),1,0)

# ---- what is made of what (arrows point one way: server, batch -> store, config -> core) ------------------

LIBS_core := -lopenblas -ljansson -lxxhash -lm
LIBS_text := -lsentencepiece -lstdc++
LIBS_store := -lhiredis -llmdb -ljansson -lxxhash
LIBS_server := -lmicrohttpd
LIBS_batch := -lnettle $(shell $(PKG_CONFIG) --libs libcurl)

DIRS := core store config server batch
$(foreach d,$(DIRS),$(eval SRC_$(d) := $(filter-out %/main.c,$(wildcard $(d)/*.c $(d)/*.cc))))
ifneq ($(CLANG),) # the kernels are written in gcc's C, and read nothing from outside
SRC_core := $(filter-out core/scorer% core/linear% core/cross%,$(SRC_core))
endif
$(foreach d,$(DIRS),$(eval OBJ_$(d) := $(patsubst %,$(BUILD)/obj/%.o,$(basename $(SRC_$(d))))))
LIB_ALL := $(foreach d,$(DIRS),$(BUILD)/lib/$(d).a)
A_server := $(foreach d,server store config core,$(BUILD)/lib/$(d).a)
A_batch := $(foreach d,batch store config core,$(BUILD)/lib/$(d).a)

TEST_SRC := $(wildcard tests/core/test_*.c tests/store/test_*.c tests/config/test_*.c tests/server/test_*.c tests/batch/test_*.c \
            tests/faults/test_*.c)
FUZZ_BIN := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
TEST_BIN := $(TEST_SRC:%.c=$(BUILD)/%) $(FUZZ_BIN)
TEST_SH := $(filter-out tests/image/%,$(wildcard tests/*/test_*.sh))
LOAD_BIN := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/load/*.c))
TRUST_BIN := $(patsubst %,$(BUILD)/tests/trust/%,wire mutate dump kill_at.so clock.so)
PEER_BIN := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench/peers/*.c))
BENCH_SRC := $(filter-out %/probes.c,$(wildcard tests/bench/*.c))
BENCH_BIN := $(BENCH_SRC:%.c=$(BUILD)/%)
TOOL_SRC := $(wildcard tests/lib/*.c)
TOOL_OBJ := $(TOOL_SRC:%.c=$(BUILD)/obj/%.o)

.SECONDARY: # keep the tests' objects
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2))

.PHONY: all always
all: $(BUILD)/embsumd $(BUILD)/embsum ## the two programs (the default)

$(BUILD)/embsumd: $(BUILD)/obj/server/main.o $(A_server)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_server) $(LIBS_store) $(LIBS_core)

$(BUILD)/embsum: $(BUILD)/obj/batch/main.o $(A_batch)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_batch) $(LIBS_store) $(LIBS_text) $(LIBS_core)

$(BUILD)/obj/batch/ranks.o: CPPFLAGS += $(if $(filter 1,$(WITH_MPI)),-DEMBSUM_MPI $(MPI_CFLAGS:-I%=-isystem %))
$(BUILD)/obj/batch/ranks.o: $(BUILD)/obj/with_mpi
$(BUILD)/obj/with_mpi: always # new only when it changes, so that ranks.o is too
	$(Q)mkdir -p $(@D) && echo $(WITH_MPI) | cmp -s - $@ || echo $(WITH_MPI) >$@

define archive
$$(BUILD)/lib/$(1).a: $$(OBJ_$(1))
	$$(call say,AR,$$@)
	$$(Q)mkdir -p $$(@D) && rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach d,$(DIRS),$(eval $(call archive,$(d))))

$(BUILD)/obj/%.o: %.c Makefile
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS) $(CFLAGS_$(firstword $(subst /, ,$*))) -c -o $@ $<

# The console's files are in it.
$(BUILD)/obj/server/console.o: $(wildcard server/console/*)
# The descriptions are in it.
$(BUILD)/obj/server/openapi.o: server/openapi.json server/openapi_admin.json
# What embsum doctor compares the loaded libraries with.
$(BUILD)/obj/batch/doctor_libraries.o: CPPFLAGS += -DEMBSUM_BUILT_WITH='"$(foreach l,libmicrohttpd jansson openblas hiredis \
    libxxhash nettle sentencepiece libcurl lmdb,$(l)=$(shell $(PKG_CONFIG) --modversion $(l) 2>/dev/null) )"'

# The templates are in it.
$(BUILD)/obj/batch/prompt_shipped.o: config/prompts/news.txt config/prompts/books.txt

$(BUILD)/obj/%.o: %.cc Makefile
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D) && $(CXX) $(CPPFLAGS) $(CXXFLAGS) -c -o $@ $<

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(TOOL_OBJ) $(LIB_ALL)
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(LIB_ALL) -Wl,--end-group -lcmocka \
	    $(LIBS_server) $(LIBS_batch) $(LIBS_store) $(LIBS_text) $(LIBS_core)

$(BUILD)/tests/bench/kernels $(BUILD)/tests/bench/encoder: $(BUILD)/obj/tests/bench/probes.o

# Allocators of their own.
$(FUZZ_BIN): $(BUILD)/obj/tests/fuzz/memory.o
$(FUZZ_BIN): LDFLAGS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
$(patsubst %.c,$(BUILD)/%,$(wildcard tests/faults/test_*.c)): $(BUILD)/obj/tests/faults/nomem.o

ifneq ($(MODE),fuzz) # libFuzzer brings its own main
$(FUZZ_BIN): $(BUILD)/obj/tests/fuzz/replay.o
endif

# Load generators stand alone; a peer is what a team would write with stock libraries, and none of this code.
$(BUILD)/tests/load/%: $(BUILD)/obj/tests/load/%.o $(BUILD)/obj/core/err.o
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -o $@ $^ -lm

# Preloaded: one dies at its n-th write, one has a clock that runs ahead.
$(BUILD)/tests/trust/%.so: tests/trust/%.c Makefile
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(filter-out -MMD -MP,$(CPPFLAGS)) -std=c11 $(WARN) $(WARN_C) -O1 -fPIC -shared -o $@ $<

$(BUILD)/tests/bench/peers/%: tests/bench/peers/%.c Makefile
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(filter-out -MMD -MP,$(CPPFLAGS)) -std=c11 -g -O3 -march=native -ffast-math $(WARN) $(WARN_C) -pthread \
	    -Wl,--as-needed -o $@ $< -lmicrohttpd -ljansson -lopenblas -lhiredis -lm

# ---- tests ------------------------------------------------------------------------------------------------

.PHONY: check tests asan tsan valgrind fuzz fuzz-coverage fuzzers bench bench-best bench-decoder bench-encoder bench-inputs bench-kernels bench-memory bench-request bench-train bench-books bench-study \
        bench-encoder-peers bench-refresh bench-workers image fresh trust torture debug lint format help clean
tests: all $(TEST_BIN) $(BENCH_BIN) $(LOAD_BIN) $(TRUST_BIN) $(PEER_BIN)

check: tests ## every test, under 10 minutes
	$(Q)BUILD=$(abspath $(BUILD)) MODE=$(MODE) sh tests/lib/run_tests.sh $(TEST_BIN) $(TEST_SH)

asan: ## every test under AddressSanitizer and UBSan
	$(Q)$(MAKE) MODE=asan BUILD=$(BUILD)/asan check

tsan: ## every test under ThreadSanitizer
	$(Q)$(MAKE) MODE=tsan BUILD=$(BUILD)/tsan check

valgrind: tests ## every test under valgrind's memcheck, but those that say why not (half an hour)
	$(Q)BUILD=$(abspath $(BUILD)) sh tests/lib/valgrind.sh $(abspath $(TEST_BIN)) $(TEST_SH)

fuzz: ## each fuzz target under libFuzzer, ASan and UBSan, by clang (SECONDS=60 each)
	$(Q)$(MAKE) MODE=fuzz BUILD=$(BUILD)/fuzz fuzzers
	$(Q)BUILD=$(abspath $(BUILD))/fuzz sh tests/fuzz/fuzz $(or $(SECONDS),60)

fuzz-coverage: ## lines of each parser that its fuzz target's corpus reaches, at least 90 % (by clang, a minute)
	$(Q)$(MAKE) MODE=cover BUILD=$(BUILD)/cover fuzzers
	$(Q)BUILD=$(abspath $(BUILD))/cover sh tests/fuzz/coverage

fuzzers: $(FUZZ_BIN)

bench-kernels: $(BUILD)/tests/bench/kernels ## the scoring kernels beside this processor's limits (ROUNDS=40)
	$(Q)$< $(ROUNDS)

bench-encoder: $(BUILD)/tests/bench/encoder ## T5-small's encoder in each dtype beside this processor's limits (ROUNDS=5; two minutes)
	$(Q)$< $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(LENGTHS),--lengths $(LENGTHS))

bench-decoder: $(BUILD)/tests/bench/decoder ## what a user costs, encoder and decoder, in each dtype (ROUNDS=3, ITEMS=60; ten minutes)
	$(Q)$< $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ITEMS),--items $(ITEMS))

bench-best: $(BUILD)/tests/bench/best ## the exact best 10 of 1,000 beside the float32 and int8 kernels (ROUNDS=100)
	$(Q)$< $(ROUNDS)

bench: all $(LOAD_BIN) $(PEER_BIN) ## /rank beside nginx and the peers a team would pick instead (15 minutes; ROWS=..., ROUNDS=3)
	$(Q)BUILD=$(abspath $(BUILD)) tests/bench/serve.py $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS))

trust: tests ## what is promised under hostile clients and stores, with figures (half an hour; SEED=..., NAMES='slow stop')
	$(Q)BUILD=$(abspath $(BUILD)) tests/trust/trust.py $(if $(SEED),--seed $(SEED)) $(NAMES)

torture: ## all that takes long, one after the other, whatever fails: trust, fuzz (SECONDS=600 each), asan, tsan, valgrind (hours)
	$(Q)failed=; for what in trust "fuzz SECONDS=$(or $(SECONDS),600)" asan tsan valgrind; do \
	    echo "---- make $$what"; $(MAKE) $$what || failed="$$failed $${what%% *}"; done; \
	    [ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

bench-memory: $(BUILD)/tests/bench/memory ## look-ups in hot memory: ns an id, bytes a content (a minute)
	$(Q)$<

bench-inputs: $(BUILD)/tests/bench/inputs ## reading of 1,000,000 items and 500,000 users: bytes of each, seconds (two minutes)
	$(Q)$<

bench-refresh: all ## a refresh with nothing new and with little, and its memory (half an hour; BOOKS=DIR T5VOCAB=spiece.model)
	$(Q)BUILD=$(abspath $(BUILD)) tests/bench/refresh.py --books $(BOOKS) --vocab $(T5VOCAB) $(ROWS)

bench-request: $(BUILD)/tests/bench/request ## reading, sorting and writing of a request beside jansson (a minute)
	$(Q)$<

bench-train: all ## a training step beside PyTorch's: speed and memory (ROUNDS=3, T5VOCAB=spiece.model)
	$(Q)BUILD=$(abspath $(BUILD)) tests/bench/train.py

bench-encoder-peers: all $(filter %/encoder,$(BENCH_BIN)) ## T5's encoder beside PyTorch, onnxruntime and CTranslate2 (15 minutes; BOOKS=dir, T5VOCAB=spiece.model, ROUNDS=3)
	$(Q)BUILD=$(abspath $(BUILD)) tests/bench/encoder_peers.py

bench-books: all ## a model of readers from scratch, and its AUC (BOOKS=dir, T5VOCAB=spiece.model; 20 minutes)
	$(Q)BUILD=$(abspath $(BUILD)) sh tests/bench/books.sh

bench-study: all ## the ablations and the size curves on readers of books (BOOKS=dir; half an hour)
	$(Q)BUILD=$(abspath $(BUILD)) sh tests/bench/study.sh

bench-workers: all ## a refresh by two workers beside one thread (ROUNDS=3, USERS=288; a quarter of an hour)
	$(Q)BUILD=$(abspath $(BUILD)) sh tests/bench/workers.sh

image: ## build and run the Dockerfile with buildah (root, minutes)
	$(Q)sh tests/image/test_image.sh

fresh: ## the README's commands on a fresh Debian 12 (root, minutes)
	$(Q)sh tests/fresh/fresh

debug: ## the programs with every warning an error, in build/debug
	$(Q)$(MAKE) MODE=debug BUILD=$(BUILD)/debug tests

lint: debug ## warnings as errors, and the source's format
	$(Q)git ls-files '*.c' '*.h' '*.cc' | xargs clang-format --dry-run -Werror

format: ## rewrite the source's format
	$(Q)git ls-files '*.c' '*.h' '*.cc' | xargs clang-format -i

install: all ## the programs, man pages, completion, configuration, units (DESTDIR=, PREFIX=/usr/local)
uninstall: ## what install has put there (an edited configuration, stores and models stay)
include deploy/install.mk

clean: ## remove the build folder
	rm -rf $(BUILD)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | sort | expand -t 20

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

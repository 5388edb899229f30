# Every target that a person calls has a `##` line: `make help` lists them.
HOST   := $(shell rustc -vV | sed -n 's/^host: //p')
# Relocations packed (RELR): 250 KiB that the start reads, and the file carries, for nothing. A linker that cannot says so.
STATIC := RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs $(shell images/remap.sh rust)" CFLAGS="$(shell images/remap.sh c)"
BIN    := target/$(HOST)/release/azaion-loader
export LOADER_UNDER_TEST := $(CURDIR)/$(BIN)

help: ## This list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 17
build: ## The agent as one static binary for this machine
	$(STATIC) cargo rustc --release --locked --target $(HOST) --bin azaion-loader -- -C opt-level=3
demo: build ## The whole job on this machine: cloud, archive, unlock by curl, images in the engine
	cargo build --quiet --locked -p azaion-cloud
	tests/tools/demo
docs-shot: build ## The port's page in headless Chromium: unlocks a board, takes docs/screenshots. Needs root
	cargo build --quiet --locked -p azaion-cloud
	tests/tools/docs-shot
field-day: ## A board with three faults, mended by the field guide alone; ARGS=start keeps one to try by hand. Needs root
	dpkg -s docker.io faketime >/dev/null 2>&1 || apt-get install -y -q docker.io faketime
	cargo build --quiet --locked --bin azaion-loader
	cargo build --quiet --locked -p azaion-cloud
	LOADER_UNDER_TEST=target/debug/azaion-loader tests/tools/field-day $(or $(ARGS),auto)
test: build ## Every test; the last line counts them. Engines are started where dockerd is installed
	tests/tools/run-tests
schemathesis: build ## The control port against its own description, by schemathesis; ARGS="--include-path /status" for a part
	cargo build --quiet --locked -p azaion-cloud
	tests/tools/schemathesis $(ARGS)
prometheus-check: ## The alerts and the example configuration of images/prometheus/, by promtool
	tests/tools/prometheus-check
bench: build ## Numbers beside their peers on this machine, medians of several runs
	cargo bench --locked --bench decrypt
	cargo bench --locked --bench sealed
	cargo bench --locked --bench start
	cargo bench --locked --bench cdn
	cargo build --quiet --locked -p azaion-cloud
	benches/models.sh
bench-load: build ## The agent beside `docker load` on private engines; ARGS="--engine 20 --case 2" chooses
	cargo build --quiet --locked -p azaion-cloud
	benches/load.py $(ARGS)
slow-clients: build ## 1,000 slow connections in each mode of slowhttptest while an archive loads; ARGS="--mode headers --rounds 1" for a part
	cargo build --quiet --locked -p azaion-cloud
	benches/slow-clients $(ARGS)
footprint: build cross ## Memory, processor, flash, start, size, idle and loading; ARGS="--idle 60 --runs 1" is quicker
	cargo build --quiet --locked -p azaion-cloud
	benches/footprint.py $(ARGS)
lint: doc ## rustfmt, clippy and rustdoc, warnings are errors
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
fuzz: ## Both seals' readers under cargo-fuzz, a minute each; SECONDS_EACH=600 for longer. Needs `cargo install cargo-fuzz`
	cd fuzz && for target in archive_seal resource_seal; do \
	  mkdir -p target/corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run $$target target/corpus/$$target corpus/$$target -- \
	    -max_total_time=$(or $(SECONDS_EACH),60) -max_len=16384 || exit 1; \
	done
doc: ## The crate's documentation, private rooms included
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items -p azaion-loader
cross: ## The static ARM64 binary: by `cross` where it can run, else by Debian's toolchain
	images/cross-arm64.sh
size: build ## The ARM64 binary against its budget of 6 MiB, with each crate's share
	images/cross-arm64.sh map
	benches/size.py target/arm64/azaion-loader target/cross/azaion-loader.map $(BIN)
test-arm64: cross ## The ARM64 binary under qemu-aarch64-static: the whole job once, then every test that needs no engine
	images/cross-arm64.sh install
	cargo build --quiet --locked -p azaion-cloud
	tests/tools/arm64-smoke || [ $$? -eq 77 ]
	tests/tools/arm64-tests
deb: ## The Debian package; ARCH=arm64 (the default) or amd64
	$(MAKE) $(if $(filter amd64,$(ARCH)),build,cross)
	images/deb.sh $(or $(ARCH),arm64)
deb-check: ## lintian, two builds from two directories compared, install to purge in a throw-away Debian with systemd
	$(MAKE) $(if $(filter arm64,$(ARCH)),cross,build)
	images/deb-check.sh $(or $(ARCH),amd64)
ifeq ($(BOARD),qemu-virt)
images: disk
else
images: ## All that boards of a kind are given, BOARD=raspberry-pi-5: package, container images, overlays with first-boot hook
	@images/images.sh "$(BOARD)" arch >/dev/null
	$(MAKE) $(if $(filter amd64,$(shell images/images.sh "$(BOARD)" arch 2>/dev/null)),build,cross)
	images/images.sh "$(BOARD)"
endif
container: build cross ## The container image for both architectures, without an engine
	images/container.sh
container-check: build ## The container image unlocks an archive into the very engine it runs in
	cargo build --quiet --locked -p azaion-cloud
	images/container-check.sh
overlay-check: build ## The first boot in a throw-away Debian: run, cut at many moments, booted by systemd
	images/overlay-check.sh
unit-score: ## What systemd says the services expose; a test holds 1.8
	@for unit in loader ready; do systemd-analyze security --offline=true --no-pager images/azaion-$$unit.service 2>&1 | tail -n 1; done
disk: $(if $(DEB),,cross) ## A whole ARM64 board as a disk for QEMU (also BOARD=qemu-virt), target/images/qemu-virt/disk.qcow2; DEB=… takes a package that is there
	cargo build --quiet --locked -p azaion-cloud
	images/disk/build.sh
boot-test: disk ## That disk under qemu-system-aarch64: unlocks itself, power cut at six moments, always back by itself; bounded
	tests/tools/boot-test
clean: ## Remove what was built
	cargo clean

.PHONY: help build demo docs-shot field-day test schemathesis prometheus-check bench bench-load slow-clients footprint lint fuzz doc cross size test-arm64 deb deb-check images container container-check overlay-check unit-score disk boot-test clean

//! Random numbers of a seed that is printed, so that a failure can be had again: `TEST_SEED=N` repeats it.

/// Included by the test binaries that cut at random points.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 16) % bound
    }
}

/// `TEST_SEED`, else the time.
pub(crate) fn seed() -> u64 {
    let fixed = std::env::var("TEST_SEED").ok().and_then(|text| text.parse().ok());
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |since| since.as_secs());
    fixed.unwrap_or_else(now)
}

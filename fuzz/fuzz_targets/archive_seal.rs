#![no_main]
use azaion_loader::{crypto::Fragment, net::turn, seal::ArchiveClaim};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let fragment = Fragment::new(b"a key fragment".to_vec()).expect("short");
    if let Ok(claim) = ArchiveClaim::parse(bytes.to_vec()) {
        assert!(claim.chunks().iter().count() as u64 == claim.chunks().count());
        let _ = turn::block_on(&smol::LocalExecutor::new(), claim.authenticate(&fragment.archive_key()));
    }
});

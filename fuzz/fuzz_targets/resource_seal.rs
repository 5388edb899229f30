#![no_main]
use azaion_loader::{crypto::Fragment, name::Folder, name::ResourceName, net::turn, seal::ResourceClaim};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let key = Fragment::new(b"a key fragment".to_vec()).expect("short").archive_key();
    let (folder, name) = (Folder::default(), ResourceName::new("detector").expect("a name"));
    if let Ok(claim) = ResourceClaim::parse(bytes.to_vec()) {
        let _ = turn::block_on(&smol::LocalExecutor::new(), claim.authenticate(&key, &folder, &name));
    }
});

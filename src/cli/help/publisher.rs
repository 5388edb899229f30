//! The publisher's commands.

pub(in crate::cli) const SEAL: &str = "\
azaion-loader seal: encrypts a tar of images for the fleet and seals it: images.enc and images.enc.seal

  azaion-loader seal --key-fragment FILE --out images.enc [TAR]

TAR is what docker save writes, also compressed with gzip or zstd; without it, or as -, it is standard input. The input is
read once. What was written is then read back and checked as verify does it, every layer against its digest, so that nothing
is sealed that a board would not load. Both files appear when all of that is done, and not before.

  --key-fragment F  the key fragment of the release: 1 to 4096 raw bytes, the same that the Resource API gives to boards
  --out FILE        the archive; its seal is FILE.seal
  --existing FILE   seal this archive as it is, instead of making one; the seal is FILE.seal
  --name NAME       which archives it belongs to, default images; a board takes only the name it is configured for
  --version N       grows from release to release, default seconds since 1970; a board refuses an older one
  --force           replace files that are there

Where boards know a publisher's key, sign the seal with the ordinary tool and ship all three files:
  minisign -S -s publisher.key -m images.enc.seal

Exit code 1 when nothing was made; what was there before is then as it was.

Examples:
  docker save azaion/a:1 azaion/b:1 | azaion-loader seal --key-fragment fleet.key --out images.enc
  azaion-loader seal --key-fragment fleet.key --out images.enc --version 42 suite.tar
  azaion-loader seal --key-fragment fleet.key --existing /opt/azaion/images.enc";

pub(in crate::cli) const VERIFY: &str = "\
azaion-loader verify: checks an archive and its seal wholly, without an engine, and lists what is in it

  azaion-loader verify --key-fragment FILE images.enc

Checked are: the seal and its tag, the archive's length, the hash of every chunk, the structure of the tar, the list of
images against the seal, and the digest of every config, blob and layer; gzip and zstd layers are unpacked for that. An
archive without a seal is said to be unsealed, and the rest is checked.

  --key-fragment F       the key fragment of the release
  --seal FILE            the seal; default: the archive's name with .seal, where there is such a file
  --publisher-key KEY    the seal must be signed by this minisign key: its 56 characters, or a file that holds them;
                         the signature is the seal's name with .minisig; more than once: by one of them
  --json                 the answer as JSON

Exit code 0 when all of it is right, 1 when something is not.

Examples:
  azaion-loader verify --key-fragment fleet.key images.enc
  azaion-loader verify --key-fragment fleet.key --publisher-key publisher.pub --json images.enc";

pub(in crate::cli) const INSPECT: &str = "\
azaion-loader inspect: what a seal claims, and whether the archive beside it is the one

  azaion-loader inspect images.enc

Needs no key: name, version, length and hashes are readable, and are claims until a key has proved them. The names of the
images are encrypted.

  --chunks          read the archive and say which chunks are not the ones listed: what of a copy must be copied again
  --key-fragment F  prove the claims, and list the images
  --json            the answer as JSON

Exit code 1 when the claims are disproved or the archive is not the one.

Examples:
  azaion-loader inspect images.enc.seal
  azaion-loader inspect --chunks /opt/azaion/images.enc
  azaion-loader inspect --key-fragment fleet.key images.enc";

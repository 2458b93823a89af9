use std::path::Path;
use std::process::Command;

/// `ops/deb-check` with the binary under test: packed twice to the same bytes, installed in a root of
/// its own, run from there, upgraded, removed and purged. What the relay stored is compared each time.
#[test]
fn the_debian_package_installs_upgrades_and_goes_without_touching_data() {
    let missing = ["dpkg-deb", "readelf", "strip"]
        .into_iter()
        .find(|tool| Command::new(tool).arg("--version").output().is_err());
    let why = match missing {
        Some(tool) => Some(format!("{tool} is not installed")),
        None if !rustix::process::geteuid().is_root() => Some("dpkg wants root".to_owned()),
        None => None,
    };
    if let Some(why) = why {
        eprintln!("SKIPPED: {why}: the Debian package was not tried");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/deb-check");
    let output = Command::new(script).arg(env!("CARGO_BIN_EXE_forebay")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the data stays"), "{said}");
}

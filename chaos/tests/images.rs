//! The images that need no registry.

use std::fs;

use xebec_chaos::{images, shell};

#[test]
fn the_same_busybox_gives_the_same_images_and_they_name_themselves() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    images::build(first.path()).unwrap();
    images::build(second.path()).unwrap();
    for name in ["xebec.local_pause_1.tar", "xebec.local_busybox_1.tar"] {
        let (one, other) = (first.path().join(name), second.path().join(name));
        assert!(fs::read(&one).unwrap() == fs::read(other).unwrap(), "{name} differs between two builds");
        let index = shell::run("tar", &["-xOf", &one.display().to_string(), "index.json"]).unwrap();
        let index: serde_json::Value = serde_json::from_str(&index).unwrap();
        let named = index["manifests"][0]["annotations"]["io.containerd.image.name"].as_str().unwrap();
        assert_eq!(named.replace(['/', ':'], "_") + ".tar", name);
    }
}

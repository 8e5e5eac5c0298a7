//! A directory whose whole content changes at once: real files live in a directory of their own, the link `..data`
//! names the current one, and the visible names are links through `..data` (`pkg/volume/util/atomic_writer.go`).

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
};

use xebec_node_core::files::Files;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

pub(super) fn write(root: &Path, files: &Files, group: Option<i64>) -> io::Result<()> {
    fs::create_dir_all(root)?;
    let current = fs::read_link(root.join(DATA)).ok();
    if current.as_ref().is_some_and(|current| is_same(&root.join(current), files)) {
        return Ok(());
    }
    let name = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%f"));
    let fresh = root.join(&name);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &file.content)?;
        let mut mode = u32::try_from(file.mode).unwrap_or(0o644) & 0o777;
        if let Some(group) = group.and_then(|group| u32::try_from(group).ok()) {
            chown(&target, None, Some(group))?;
            mode |= 0o440;
        }
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
    }
    match fs::remove_file(root.join(DATA_NEW)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(&name, root.join(DATA_NEW))?,
    }
    fs::rename(root.join(DATA_NEW), root.join(DATA))?;
    link_visible_names(root, files)?;
    if let Some(current) = current {
        fs::remove_dir_all(root.join(current))?;
    }
    Ok(())
}

fn link_visible_names(root: &Path, files: &Files) -> io::Result<()> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(&*name) {
            fs::remove_file(root.join(&*name))?;
        }
    }
    for name in wanted {
        let link = root.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    Ok(())
}

fn is_same(dir: &Path, files: &Files) -> bool {
    fn count(dir: &Path) -> usize {
        let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
        entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
    }
    count(dir) == files.len()
        && files.iter().all(|(path, file)| fs::read(dir.join(path)).is_ok_and(|content| content == file.content))
}

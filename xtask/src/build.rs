//! What a build needs and what it makes: system packages, RocksDB once for every checkout, the `xebec` binary.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use xebec_chaos::{preflight, shell};

/// Cargo profiles that commands here use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// For tests: quick to build.
    Dev,
    /// For people and measurements.
    Release,
}

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// What is kept from one checkout to the next: `$XEBEC_CACHE`, or a place of the system's.
pub fn cache_dir() -> PathBuf {
    if let Some(dir) = env::var_os("XEBEC_CACHE") {
        return dir.into();
    }
    if preflight::is_root() {
        return "/var/cache/xebec".into();
    }
    env::var_os("HOME").map_or_else(|| root().join("target"), |home| Path::new(&home).join(".cache/xebec"))
}

/// What a command needs of the machine, beyond what building takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing more.
    Build,
    /// Hosts and containers.
    Cluster,
    /// Hosts, containers, and the programs that tests compare with.
    Tests,
}

/// Programs that tests compare with, and the Debian package of each.
const JUDGES: [(&str, &str); 2] = [("etcd", "etcd-server"), ("etcdctl", "etcd-client")];

/// Installs what is missing on a Debian or Ubuntu machine.
pub fn install_missing(need: Need) -> Result<()> {
    let mut missing = if need == Need::Build { Vec::new() } else { preflight::missing_packages() };
    if need == Need::Tests {
        let absent = JUDGES.iter().filter(|(program, _)| !installed(program));
        missing.extend(absent.map(|(_, package)| *package));
    }
    // bindgen reads RocksDB's header with libclang.
    if libclang().is_none() {
        missing.extend(["clang", "libclang-dev"]);
    }
    if !installed("c++") {
        missing.push("g++");
    }
    // jemalloc is built with it.
    if !installed("make") {
        missing.push("make");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !preflight::is_root() {
        bail!("missing packages; as root: apt-get install {list}");
    }
    if !installed("apt-get") {
        bail!("this is no Debian or Ubuntu machine; install what these Debian packages hold: {list}");
    }
    eprintln!("installing {list}");
    let script = format!(
        "export DEBIAN_FRONTEND=noninteractive; apt-get update -q && apt-get install -qy --no-install-recommends {list}"
    );
    shell::run("sh", &["-c", &script]).map(drop)
}

fn installed(program: &str) -> bool {
    shell::succeeds("sh", &["-c", &format!("command -v {program}")])
}

fn libclang() -> Option<PathBuf> {
    let places = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let llvm = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path().join("lib"));
    places.iter().map(PathBuf::from).chain(llvm).find(|dir| {
        fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with("libclang")
                && name.to_string_lossy().contains(".so")
                && !name.to_string_lossy().contains("cpp")
        })
    })
}

/// A cargo command that finds the RocksDB built once.
pub fn cargo(args: &[&str]) -> Result<Command> {
    let rocksdb = ensure_rocksdb()?;
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told this program about xtask's own package. Build scripts that ask for such a variable (ring's does) would
    // run again, and all that depends on them, whenever cargo was called from elsewhere before.
    let of_xtask = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_xtask)) {
        command.env_remove(name);
    }
    command.current_dir(root()).args(args).env("ROCKSDB_LIB_DIR", rocksdb).env("ROCKSDB_STATIC", "1");
    Ok(command)
}

/// Runs a command whose output people see.
pub fn run_visibly(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        bail!("`cargo {}` failed", words.join(" "));
    }
    Ok(())
}

/// Builds the `xebec` binary and says where it is; `$XEBEC_BINARY` names one to use instead.
pub fn xebec(profile: Profile) -> Result<PathBuf> {
    if let Some(binary) = env::var_os("XEBEC_BINARY") {
        return Ok(binary.into());
    }
    let args: &[&str] = match profile {
        // Chosen together with the workspace's tests, dependencies get the same features as for those, and are built once.
        Profile::Dev => &["build", "--workspace", "--tests", "--bin", "xebec"],
        Profile::Release => &["build", "--package", "xebec-cli", "--release"],
    };
    run_visibly(&mut cargo(args)?)?;
    let folder = if profile == Profile::Release { "release" } else { "debug" };
    Ok(target_dir().join(folder).join("xebec"))
}

/// Where cargo puts what it makes.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// RocksDB takes a quarter of an hour to compile on two cores. It is built once, with the features of the workspace,
/// and kept in the cache for every checkout, profile and later run.
fn ensure_rocksdb() -> Result<PathBuf> {
    let dir = cache_dir().join("rocksdb");
    let version = locked_version("librocksdb-sys")?;
    let (library, stamp) = (dir.join("librocksdb.a"), dir.join("VERSION"));
    if library.exists() && fs::read_to_string(&stamp).is_ok_and(|text| text.trim() == version) {
        return Ok(dir);
    }
    eprintln!("building RocksDB {version} once; this takes about fifteen minutes on two cores");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let target = cache_dir().join("rocksdb-build");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root())
        .args(["build", "--release", "--package", "rocksdb", "--target-dir"])
        .arg(&target)
        .env_remove("ROCKSDB_LIB_DIR");
    run_visibly(&mut command)?;
    let built = find_library(&target.join("release/build"))?;
    let staged = dir.join("librocksdb.a.new");
    fs::copy(&built, &staged)?;
    fs::rename(&staged, &library)?;
    fs::write(&stamp, version)?;
    fs::remove_dir_all(&target)?;
    Ok(dir)
}

fn find_library(builds: &Path) -> Result<PathBuf> {
    fs::read_dir(builds)?
        .flatten()
        .map(|entry| entry.path().join("out/librocksdb.a"))
        .find(|path| path.exists())
        .with_context(|| format!("no librocksdb.a under {}", builds.display()))
}

fn locked_version(package: &str) -> Result<String> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{package}\""));
    let line = lines.nth(1).with_context(|| format!("Cargo.lock names no {package}"))?;
    Ok(line.trim_start_matches("version = ").trim_matches('"').to_owned())
}

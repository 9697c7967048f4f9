//! For build scripts: compiles a crate of this workspace for BPF and leaves the object at
//! `$OUT_DIR/PACKAGE`, to be embedded.
//!
//! What it takes is a rustc with `core` for the BPF target: a distribution's, or rustup's with
//! the component `rust-src`. aya-build names compilers by rustup toolchain only, so that a
//! distribution's rustc would first have to be linked into the user's rustup; hence this script.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

const TARGET: &str = "bpfel-unknown-none";
/// Not `release`, whose link-time optimisation and codegen units suit user space.
const PROFILE: &str = "bpf";
const REMEDY: &str = "run `make bootstrap`";

/// Why there is no object.
enum Failure {
    /// Something is missing or wrong on this machine; the line says what to do.
    Setup(String),
    /// The compiler or the linker has said why on standard error.
    Compile(String),
}

/// A crate with a binary of the same name that runs in the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// The package.
    pub package: &'a str,
    /// Folders of the checkout that it is made of.
    pub sources: &'a [&'a str],
    /// The environment variable by which a packager brings an object that was built beforehand.
    pub brought_by: Option<&'a str>,
}

/// The whole `main` of a build script.
pub fn embed(object: &Object<'_>) -> ExitCode {
    match embed_object(object) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Setup(line)) => {
            // Cargo shows the line alone only when the script itself succeeds.
            println!("cargo::error={line}");
            ExitCode::SUCCESS
        }
        Err(Failure::Compile(line)) => {
            println!("cargo::error={line}");
            ExitCode::FAILURE
        }
    }
}

fn embed_object(wanted: &Object<'_>) -> Result<(), Failure> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = manifest_dir.parent().unwrap_or(&manifest_dir);
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let embedded = out_dir.join(wanted.package);

    if let Some(variable) = wanted.brought_by {
        println!("cargo::rerun-if-env-changed={variable}");
        if let Some(object) = env::var_os(variable) {
            return take_object(variable, &root.join(object), &embedded);
        }
    }

    // A folder is watched with all that is in it, so the crate shared with user space counts too.
    for source in wanted.sources.iter().chain(&["Cargo.toml", "Cargo.lock"]) {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let compiler = Compiler::find()?;
    let linker = find_linker(root)?;
    let object = compile(wanted.package, &compiler, &linker, root, &target_dir(&out_dir))?;
    copy(&object, &embedded)
}

/// Takes an object that was built beforehand; a relative path starts at the checkout.
fn take_object(variable: &str, object: &Path, embedded: &Path) -> Result<(), Failure> {
    println!("cargo::rerun-if-changed={}", object.display());
    match fs::read(object) {
        Ok(bytes) if bytes.starts_with(b"\x7fELF") => copy(object, embedded),
        Ok(_) => Err(setup(format!("{variable}: {} is no ELF file", object.display()))),
        Err(e) => Err(setup(format!("{variable}: {}: {e}", object.display()))),
    }
}

/// A rustc that can compile for the BPF target.
struct Compiler {
    rustc: PathBuf,
    /// It has the sources of `core`, not the compiled crate.
    build_core: bool,
}

impl Compiler {
    fn find() -> Result<Self, Failure> {
        println!("cargo::rerun-if-env-changed=SEKISHO_BPF_RUSTC");
        let chosen = env::var_os("SEKISHO_BPF_RUSTC").map(PathBuf::from);
        let candidates = match &chosen {
            Some(chosen) => vec![chosen.clone()],
            None => in_path("rustc").chain(rustup_nightly()).collect(),
        };

        let needed = variable("CARGO_PKG_RUST_VERSION")?;
        let mut too_old = None;
        let mut with_sources = None;
        for rustc in candidates {
            let Some((ready, sources)) = core_of(&rustc) else { continue };
            if !ready && !sources {
                continue;
            }
            let version = version_of(&rustc);
            if version < parse_version(&needed) {
                too_old = Some(rustc);
            } else if ready {
                println!("cargo::rerun-if-changed={}", rustc.display());
                return Ok(Self { rustc, build_core: false });
            } else {
                with_sources.get_or_insert(rustc);
            }
        }

        match (with_sources, too_old, chosen) {
            (Some(rustc), _, _) => Ok(Self { rustc, build_core: true }),
            (None, Some(rustc), _) => Err(setup(format!(
                "{} is too old for the XDP program, which needs rustc {needed}: {REMEDY}",
                rustc.display()
            ))),
            (None, None, Some(chosen)) => Err(setup(format!(
                "SEKISHO_BPF_RUSTC: {} has no `core` for {TARGET}",
                chosen.display()
            ))),
            (None, None, None) => Err(setup(format!(
                "no rustc on this machine has `core` for {TARGET}, which the XDP program needs: {REMEDY}"
            ))),
        }
    }

    /// Cargo, set to use this compiler and nothing that the outer cargo put into the environment.
    fn cargo(&self) -> Result<Command, Failure> {
        // The manifests of `core` may need the cargo of the same toolchain.
        let sibling = self.rustc.with_file_name("cargo");
        let mut cargo = if self.build_core && sibling.is_file() {
            Command::new(sibling)
        } else {
            Command::new(variable("CARGO")?)
        };
        cargo.arg("build");
        if self.build_core {
            cargo.arg("-Zbuild-std=core");
        }
        for inherited in [
            "CARGO",
            "CARGO_BUILD_BUILD_DIR",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_WRAPPER",
            "RUSTDOC",
        ] {
            cargo.env_remove(inherited);
        }
        // The BPF target is unstable, and so is what aya-ebpf does with it.
        cargo.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        Ok(cargo)
    }
}

/// Whether a rustc has `core` for the BPF target, compiled and as sources; `None` if it does not run.
fn core_of(rustc: &Path) -> Option<(bool, bool)> {
    let printed = answer(rustc, &["--print", "sysroot"])?;
    let libraries = Path::new(printed.trim()).join("lib/rustlib");
    let ready = fs::read_dir(libraries.join(TARGET).join("lib")).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"libcore-"))
    });
    Some((ready, libraries.join("src/rust/library/core/Cargo.toml").is_file()))
}

fn version_of(rustc: &Path) -> Option<(u32, u32)> {
    let printed = answer(rustc, &["--version"])?;
    parse_version(printed.split_whitespace().nth(1)?)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Rustup's nightly compiler, asked for without having it installed in passing.
fn rustup_nightly() -> Option<PathBuf> {
    let rustup = in_path("rustup").next()?;
    let printed = answer(&rustup, &["which", "--toolchain", "nightly", "rustc"])?;
    Some(PathBuf::from(printed.trim()))
}

fn answer(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("RUSTUP_AUTO_INSTALL", "0")
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// The checkout's own bpf-linker, or else the machine's.
fn find_linker(root: &Path) -> Result<PathBuf, Failure> {
    let own = root.join(".tools/bin/bpf-linker");
    let linker = if own.is_file() { Some(own) } else { in_path("bpf-linker").next() };
    let linker = linker.ok_or_else(|| setup(format!("bpf-linker is not installed: {REMEDY}")))?;
    println!("cargo::rerun-if-changed={}", linker.display());
    Ok(linker)
}

fn in_path(program: &'static str) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.into_iter().map(move |folder| folder.join(program)).filter(|file| file.is_file())
}

/// A target directory for the XDP program alone, as the outer cargo holds the lock of its own; one
/// for all profiles, so that the program is built once for them. Cargo marks the usual one by a tag.
fn target_dir(out_dir: &Path) -> PathBuf {
    let usual = out_dir.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    usual.unwrap_or(out_dir).join("bpf")
}

fn compile(
    package: &str,
    compiler: &Compiler,
    linker: &Path,
    root: &Path,
    target_dir: &Path,
) -> Result<PathBuf, Failure> {
    if variable("CARGO_CFG_TARGET_ENDIAN")? != "little" {
        return Err(setup("the XDP program is built for little-endian machines only".to_owned()));
    }
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", variable("CARGO_CFG_TARGET_ARCH")?),
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
        // 32-bit registers and jumps; every kernel since 5.12 has them.
        "-Ctarget-cpu=v3".to_owned(),
        // IP addresses lie at odd places in a frame; the machines we build for read them whole.
        "-Ctarget-feature=+allows-misaligned-mem-access".to_owned(),
    ];
    let mut cargo = compiler.cargo()?;
    cargo
        .args(["--locked", "--package", package, "--bin", package])
        .args(["--target", TARGET, "--profile", PROFILE, "--target-dir"])
        .arg(target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .current_dir(root);

    let built = cargo.status().is_ok_and(|status| status.success());
    if !built {
        return Err(Failure::Compile(format!(
            "{} and {} could not build {package}; after an upgrade of either, {REMEDY}",
            compiler.rustc.display(),
            linker.display()
        )));
    }
    Ok(target_dir.join(TARGET).join(PROFILE).join(package))
}

fn copy(object: &Path, embedded: &Path) -> Result<(), Failure> {
    fs::copy(object, embedded).map(drop).map_err(|e| {
        setup(format!("cannot copy {} to {}: {e}", object.display(), embedded.display()))
    })
}

fn variable(name: &str) -> Result<String, Failure> {
    env::var(name).map_err(|e| setup(format!("{name}: {e}")))
}

fn setup(line: String) -> Failure {
    Failure::Setup(line)
}

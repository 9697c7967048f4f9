//! The lock of the kill switch: one change at a time, whoever makes it.

use std::{
    fs,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{DataplaneError, pins::system};

/// How long a holder may take; an operator waits for the command meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(5);

/// Locks a folder, or says who has had it locked all the time.
pub(super) fn take(folder: &Path) -> Result<Flock<OwnedFd>, DataplaneError> {
    let call = || format!("lock {}", folder.display());
    let dir = fs::File::open(folder).map_err(|error| system(call(), error))?;
    let mut fd = OwnedFd::from(dir);
    let deadline = Instant::now() + PATIENCE;
    loop {
        fd = match Flock::lock(fd, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((fd, Errno::EWOULDBLOCK)) if Instant::now() < deadline => fd,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(DataplaneError::SwitchHeld {
                    path: folder.display().to_string(),
                    holder: holder(folder).unwrap_or_else(|| "an unknown process".to_owned()),
                    waited: PATIENCE,
                });
            }
            Err((_, errno)) => return Err(system(call(), errno.into())),
        };
        thread::sleep(PAUSE);
    }
}

/// The process that has a file locked, as `process 42 (sekisho)`.
fn holder(path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok()?;
    let pid = holder_in(&fs::read_to_string("/proc/locks").ok()?, file.dev(), file.ino())?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(match name.trim() {
        "" => format!("process {pid}"),
        name => format!("process {pid} ({name})"),
    })
}

/// The holder's number in a table of locks, proc_locks(5): `1: FLOCK ADVISORY WRITE 42 00:1d:7 0 EOF`;
/// who waits stands behind an arrow.
fn holder_in(table: &str, device: u64, inode: u64) -> Option<u32> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, _, pid, found, ..] if found == file => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_among_locks_of_other_kinds_and_files() {
        let table = "1: POSIX  ADVISORY  WRITE 7 00:1d:99 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 8 00:1d:98 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 42 00:1d:99 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 43 00:1d:99 0 EOF\n";
        assert_eq!(holder_in(table, libc::makedev(0, 0x1d), 99), Some(42));
        assert_eq!(holder_in(table, libc::makedev(0, 0x1e), 99), None);
        assert_eq!(holder_in("", 0, 0), None);
    }

    #[test]
    fn who_waits_in_vain_is_told_for_whom() {
        let folder = tempfile::tempdir().unwrap();
        let held = take(folder.path()).unwrap();
        let told = take(folder.path()).unwrap_err().to_string();
        assert!(told.contains(&format!("process {} (", std::process::id())), "{told}");
        drop(held);
        take(folder.path()).unwrap();
    }
}

//! Network namespaces of our own.

use std::{
    fs::{self, File},
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, anyhow};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// Where `ip netns` and `nsenter --net=` look for namespaces by name.
const DIRECTORY: &str = "/run/netns";

/// A network namespace that lives as long as this value.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    handle: File,
}

impl Netns {
    /// Makes an empty namespace and gives it a name under `/run/netns`.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot create {DIRECTORY}"))?;
        let path = Path::new(DIRECTORY).join(name);
        File::create_new(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let bound = thread::scope(|scope| {
            scope
                .spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                    let own = Path::new("/proc/thread-self/ns/net");
                    mount(Some(own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                })
                .join()
        });
        let opened = match bound {
            Ok(Ok(())) => File::open(&path).map_err(anyhow::Error::from),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(anyhow!("the thread that makes it died")),
        };
        match opened {
            Ok(handle) => Ok(Self { path, handle }),
            Err(error) => {
                remove(&path);
                Err(error.context(format!("cannot make the network namespace {name}")))
            }
        }
    }

    /// Its name under `/run/netns`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does some work on a thread inside the namespace and waits for it.
    pub fn inside<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let entered = thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter()?;
                    work()
                })
                .join()
        });
        entered.unwrap_or_else(|_| Err(anyhow!("a thread in {} died", self.path.display())))
    }

    /// Starts a thread inside the namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        thread_name: &str,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
        let handle = self.handle.try_clone()?;
        let thread = thread::Builder::new().name(thread_name.to_owned()).spawn(move || {
            setns(&handle, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
            work()
        })?;
        Ok(thread)
    }

    fn enter(&self) -> anyhow::Result<()> {
        setns(&self.handle, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter {}", self.path.display()))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    // Either may fail when the creation failed halfway; the other still has to be tried.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}

/// An async runtime whose sockets all belong to one namespace.
#[derive(Debug)]
pub struct Resident {
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Resident {
    /// Starts the runtime on a thread of its own inside the namespace.
    pub fn start(namespace: &Netns, thread_name: &str) -> anyhow::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::sync_channel::<Handle>(1);
        let thread = namespace.spawn(thread_name, move || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            if ready.send(runtime.handle().clone()).is_ok() {
                let _ = runtime.block_on(stopped);
            }
            Ok(())
        })?;
        match started.recv() {
            Ok(runtime) => Ok(Self { runtime, stop: Some(stop), thread: Some(thread) }),
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(error),
                _ => Err(anyhow!("the thread '{thread_name}' died")),
            },
        }
    }

    /// Runs a future to its end on the runtime.
    pub fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = anyhow::Result<T>> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.spawn(async move {
            let _ = sender.send(future.await);
        });
        receiver.recv().map_err(|_| anyhow!("a task in a namespace died"))?
    }

    /// Starts a task that nobody waits for.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Refuses to go on without the rights that namespaces and XDP need.
pub fn require_root(what: &str) -> io::Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{what} needs root: it makes network namespaces and loads an XDP program"),
    ))
}

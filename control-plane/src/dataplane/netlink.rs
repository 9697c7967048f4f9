//! Questions to the kernel by netlink, from where nothing is asynchronous.

use std::io;

use rtnetlink::Handle;
use tokio::task::JoinSet;

/// Waits for an answer. Blocks.
pub(super) fn wait<T>(answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(answer)
}

/// Asks of interfaces, as long as the tasks that come with it live.
pub(super) fn interfaces() -> io::Result<(Handle, JoinSet<()>)> {
    let (connection, netlink, _) = rtnetlink::new_connection()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    Ok((netlink, tasks))
}

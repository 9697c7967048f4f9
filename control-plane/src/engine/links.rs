//! Word from the kernel that an interface came, went or changed.

use futures_util::{StreamExt as _, stream::BoxStream};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::task::JoinSet;
use tracing::warn;

/// Changes of interfaces in this network namespace.
pub(super) struct LinkChanges {
    word: Option<BoxStream<'static, ()>>,
    _connection: JoinSet<()>,
}

impl LinkChanges {
    /// Listens from now on. Without word of changes they are noticed a little later.
    pub(super) fn listen() -> Self {
        let mut tasks = JoinSet::new();
        let word = match new_multicast_connection(&[MulticastGroup::Link]) {
            Ok((connection, _, messages)) => {
                tasks.spawn(connection);
                Some(messages.map(drop).boxed())
            }
            Err(error) => {
                warn!(%error, "no word of interfaces that come and go: they are looked for");
                None
            }
        };
        Self { word, _connection: tasks }
    }

    /// Waits for the next change; for ever if there is no more word.
    pub(super) async fn next(&mut self) {
        if let Some(word) = &mut self.word
            && word.next().await.is_some()
        {
            return;
        }
        self.word = None;
        std::future::pending::<()>().await;
    }
}

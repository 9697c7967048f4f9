//! How components are told to stop.

use tokio::sync::watch;

/// Waits until it is time to stop, or until nobody is left who could say so.
pub async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // The guard that this gives must not live across an await.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

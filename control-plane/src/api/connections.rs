//! Connections: none is waited for without end, neither while it asks nor when the daemon stops.

use std::{future::Future, pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, time::sleep};
use tracing::{trace, warn};

/// How long to wait when no connection can be accepted, as when too many files are open.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers until `stop`, and then what was already asked. A connection is closed that has sent no
/// whole header within `patience`, be it the first one or one after an answer.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    patience: Duration,
    stop: impl Future<Output = ()>,
) {
    let open = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "the API can't accept a connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = open.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                trace!(%error, "a connection to the API ended");
            }
        });
    }
    drop(listener);
    open.shutdown().await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        sync::oneshot,
        time::timeout,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);
    const DEADLINE: Duration = Duration::from_secs(30);

    /// All that comes back until the other side closes.
    async fn answer(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("closed").unwrap();
        answer
    }

    #[tokio::test]
    async fn who_sends_no_whole_header_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "here" }));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, router, PATIENCE, async {
            let _ = stopped.await;
        }));
        let whole = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for (sent, answered) in [("", false), ("GET / HTTP/1.1\r\nHo", false), (whole, true)] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let answer = answer(stream).await;
            assert_eq!(answer.ends_with("here"), answered, "{sent:?}: {answer:?}");
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1").await.unwrap();
        stop.send(()).unwrap();
        timeout(DEADLINE, server).await.expect("it stops though somebody still asks").unwrap();
    }
}

//! A TCP connection as hyper sees it, with one habit of its own: short messages are written in one
//! piece.
//!
//! hyper hands over the head and the body of a message as separate buffers, to be written with
//! one `writev`. That is right for long bodies, which are then never copied. But most answers of a
//! web application are short, and gathering a few hundred bytes in user space and sending them is
//! cheaper than having the kernel gather them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What is gathered is at most this long.
const SHORT: usize = 2048;

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    io: TokioIo<TcpStream>,
    gathered: Vec<u8>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            io: TokioIo::new(stream),
            gathered: Vec::new(),
        }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is kept back: what was gathered and not written is gathered again.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { io, gathered } = self.get_mut();
        match bufs {
            [only] => Pin::new(io).poll_write(cx, only),
            _ if bufs.iter().map(|buf| buf.len()).sum::<usize>() <= SHORT => {
                gathered.clear();
                for buf in bufs {
                    gathered.extend_from_slice(buf);
                }
                Pin::new(io).poll_write(cx, gathered)
            }
            _ => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }
}

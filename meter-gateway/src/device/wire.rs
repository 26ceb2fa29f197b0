//! The wire of a line: a TCP connection or a serial port that counts what comes in, and notices
//! bytes that nobody has asked for.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use serial2_tokio::{SerialPort, Settings};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::address::{Address, SerialAddress};

/// An RTU line is taken for quiet after so long without a byte.
pub const QUIET: Duration = Duration::from_millis(50);
/// Longest time to wait for quiet on an RTU line.
pub const NOISE_MAX: Duration = Duration::from_millis(1000);
/// Fewer bytes than the shortest RTU frame has are noise of a driver that switches, no answer.
pub const NOISE_MAX_BYTES: usize = 4;

/// What bytes travel on.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Stream for T {}

/// Opens what is at an address.
///
/// # Errors
/// The system's.
pub async fn open(address: &Address) -> io::Result<Box<dyn Stream>> {
    match address {
        Address::Tcp(host) | Address::RtuOverTcp(host) => {
            let stream = TcpStream::connect(host).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Address::Serial(serial) => Ok(Box::new(open_port(serial)?)),
    }
}

fn open_port(serial: &SerialAddress) -> io::Result<SerialPort> {
    let port = SerialPort::open(&serial.path, |mut settings: Settings| {
        settings.set_raw();
        settings.set_baud_rate(serial.baud)?;
        settings.set_char_size(serial.char_size());
        settings.set_parity(serial.parity());
        settings.set_stop_bits(serial.stop_bits());
        Ok(settings)
    })?;
    port.discard_buffers()?;
    Ok(port)
}

/// Throws away what comes in until nothing has come for [`QUIET`].
///
/// # Errors
/// The wire broke, or it is not quiet after [`NOISE_MAX`].
pub async fn wait_for_quiet(stream: &mut dyn Stream) -> io::Result<()> {
    let end = Instant::now() + NOISE_MAX;
    let mut heard = [0; 256];
    while let Ok(read) = timeout(QUIET, stream.read(&mut heard)).await {
        if read? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if Instant::now() >= end {
            let text = "somebody talks on the line all the time; is it another master?";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    Ok(())
}

/// A stream that counts what comes in, and tells when something has come in unasked.
#[derive(Debug)]
pub(super) struct Watch {
    stream: Mutex<Box<dyn Stream>>,
    received: AtomicUsize,
    noise_max_bytes: usize,
}

impl Watch {
    pub(super) fn new(stream: Box<dyn Stream>, noise_max_bytes: usize) -> Arc<Self> {
        Arc::new(Watch {
            stream: Mutex::new(stream),
            received: AtomicUsize::new(0),
            noise_max_bytes,
        })
    }

    /// Bytes received since [`Watch::begin`].
    pub(super) fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }

    /// To be called before each request: fails where the other side has gone, or where bytes have
    /// come in that were not asked for, a late or doubled answer.
    pub(super) async fn begin(&self) -> io::Result<()> {
        self.received.store(0, Ordering::Relaxed);
        std::future::poll_fn(|context| Poll::Ready(self.check_silence(context))).await
    }

    fn check_silence(&self, context: &mut Context<'_>) -> io::Result<()> {
        let mut unasked = 0;
        let mut space = [0; 64];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match self.with(|stream| stream.poll_read(context, &mut buffer)) {
                Poll::Pending => return Ok(()),
                Poll::Ready(read) => read?,
            }
            if buffer.filled().is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            unasked += buffer.filled().len();
            if unasked > self.noise_max_bytes {
                let text = "bytes came in that were not asked for";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }

    fn with<T>(&self, act: impl FnOnce(Pin<&mut Box<dyn Stream>>) -> T) -> T {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        act(Pin::new(&mut *stream))
    }
}

/// The end of a watched stream that the Modbus client reads and writes.
#[derive(Debug)]
pub(super) struct Watched(pub(super) Arc<Watch>);

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.0.with(|stream| stream.poll_read(context, buffer));
        let count = buffer.filled().len() - before;
        self.0.received.fetch_add(count, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.with(|stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.with(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.with(|stream| stream.poll_shutdown(context))
    }
}

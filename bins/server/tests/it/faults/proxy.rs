//! A TCP proxy before PostgreSQL that reads its protocol: it knows which pool asks for what, and can end, hold or delay
//! any exchange at the moment a test wants.
//!
//! An exchange is what the driver sends up to a simple query or a Sync, and all that the server answers up to its
//! ReadyForQuery.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::trap::{Deed, Moment, Onward, Trap, Wanted};

/// What the log of exchanges keeps.
const LOGGED: usize = 20_000;
/// Answered to a request for encryption: none.
const SSL_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;

/// Where the real server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    Socket(PathBuf),
    Tcp(String),
}

impl Upstream {
    /// Of a connection URL, and the URL of the same database over TCP at another address.
    pub(crate) fn of(url: &str) -> (Self, impl Fn(SocketAddr) -> String + use<>) {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let rest = base.split_once("://").expect("a database URL").1;
        let (authority, database) = rest.split_once('/').unwrap_or((rest, "postgres"));
        let pairs: HashMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let (credentials, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let port = pairs.get("port").copied().unwrap_or("5432");
        let upstream = match pairs.get("host") {
            Some(folder) if folder.starts_with('/') => {
                Self::Socket(PathBuf::from(folder).join(format!(".s.PGSQL.{port}")))
            }
            Some(host) => Self::Tcp(format!("{host}:{port}")),
            None if host.contains(':') => Self::Tcp(host.to_owned()),
            None => Self::Tcp(format!("{host}:{port}")),
        };
        let credentials = match pairs.get("user") {
            Some(user) => (*user).to_owned(),
            None => credentials.to_owned(),
        };
        let database = database.to_owned();
        let there = move |address: SocketAddr| {
            format!("postgresql://{credentials}@{address}/{database}?sslmode=disable&gssencmode=disable")
        };
        (upstream, there)
    }

    fn connect(&self) -> io::Result<Server> {
        match self {
            Self::Socket(path) => UnixStream::connect(path).map(Server::Socket),
            Self::Tcp(address) => TcpStream::connect(address).map(Server::Tcp),
        }
    }
}

/// The connection to the real server.
enum Server {
    Socket(UnixStream),
    Tcp(TcpStream),
}

impl Server {
    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Socket(stream) => stream.try_clone().map(Self::Socket),
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
        }
    }

    fn close(&self) {
        // fails only where it is closed already
        drop(match self {
            Self::Socket(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        });
    }
}

impl Read for Server {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Server {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An exchange that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `plimsoll-http` and so on: the connection's application name.
    pub(crate) pool: String,
    /// The statement's text; several are joined by `; `.
    pub(crate) text: String,
}

#[derive(Default)]
struct Shared {
    traps: Mutex<Vec<Arc<Trap>>>,
    log: Mutex<VecDeque<Seen>>,
    links: Mutex<HashMap<u64, Ends>>,
    made: AtomicU64,
    /// New connections are refused at once.
    shut: AtomicBool,
    stopping: AtomicBool,
}

/// Both ends of a connection, to close them from outside.
struct Ends {
    client: TcpStream,
    server: Server,
}

impl Ends {
    fn close(&self) {
        drop(self.client.shutdown(Shutdown::Both));
        self.server.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running proxy on a loopback port of its own. Dropping it closes everything.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// The database's URL through the proxy.
    pub(crate) url: String,
}

impl Proxy {
    /// Before the database at `url`.
    pub(crate) fn start(url: &str) -> Self {
        let (upstream, there) = Upstream::of(url);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if ours.stopping.load(Ordering::Acquire) {
                    return;
                }
                let Ok(client) = client else { continue };
                if ours.shut.load(Ordering::Acquire) {
                    continue; // closed by dropping it
                }
                let (shared, upstream) = (Arc::clone(&ours), upstream.clone());
                thread::spawn(move || drop(serve(&shared, &upstream, client)));
            }
        });
        Self { shared, address, url: there(address) }
    }

    /// Sets a trap.
    pub(crate) fn set(&self, wanted: Wanted, moment: Moment, deed: Deed) -> Arc<Trap> {
        let trap = Trap::new(wanted, moment, deed);
        lock(&self.shared.traps).push(Arc::clone(&trap));
        trap
    }

    /// Lifts all traps, lets everything through again, and keeps open connections.
    pub(crate) fn heal(&self) {
        for trap in lock(&self.shared.traps).drain(..) {
            trap.lift();
        }
        self.shared.shut.store(false, Ordering::Release);
    }

    /// Refuses new connections from now on and closes those there are: the database is away.
    pub(crate) fn shut(&self) {
        self.shared.shut.store(true, Ordering::Release);
        self.cut_all();
    }

    /// Lets connections through again.
    pub(crate) fn open(&self) {
        self.shared.shut.store(false, Ordering::Release);
    }

    /// Closes all open connections.
    pub(crate) fn cut_all(&self) {
        for ends in lock(&self.shared.links).values() {
            ends.close();
        }
    }

    /// The exchanges seen since the last call, oldest first.
    pub(crate) fn exchanges(&self) -> Vec<Seen> {
        lock(&self.shared.log).drain(..).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.heal();
        self.cut_all();
        drop(TcpStream::connect(self.address)); // so that the listening thread looks up
    }
}

/// An exchange under way.
struct Exchange {
    traps: Vec<Arc<Trap>>,
}

impl Exchange {
    fn at(&self, moment: Moment) -> Onward {
        // all of them act, so that each counts
        self.traps
            .iter()
            .filter(|trap| trap.moment == moment)
            .map(|trap| trap.act())
            .fold(Onward::Goes, |all, one| if one == Onward::Ends { one } else { all })
    }
}

fn serve(shared: &Arc<Shared>, upstream: &Upstream, mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (startup, pool) = loop {
        let packet = packet(&mut client)?;
        let code = packet.get(4..8).map_or(0, |code| i32::from_be_bytes(code.try_into().unwrap()));
        if code == SSL_REQUEST || code == GSS_REQUEST {
            client.write_all(b"N")?;
            continue;
        }
        let pool = parameter(&packet, "application_name").unwrap_or_default();
        break (packet, pool);
    };
    let mut server = upstream.connect()?;
    server.write_all(&startup)?;
    let id = shared.made.fetch_add(1, Ordering::Relaxed);
    lock(&shared.links).insert(id, Ends { client: client.try_clone()?, server: server.try_clone()? });
    if shared.shut.load(Ordering::Acquire) {
        // it was shut while this one was being made
        lock(&shared.links).values().for_each(Ends::close);
    }
    let pending = Arc::new(Mutex::new(VecDeque::new()));
    let answers = {
        let (shared, pending) = (Arc::clone(shared), Arc::clone(&pending));
        let (client, server) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || {
            drop(pass_answers(server, client, &pending));
            close(&shared, id);
        })
    };
    drop(pass_requests(shared, id, &pool, client, server, &pending));
    close(shared, id);
    drop(answers.join());
    lock(&shared.links).remove(&id);
    Ok(())
}

fn close(shared: &Shared, id: u64) {
    if let Some(ends) = lock(&shared.links).get(&id) {
        ends.close();
    }
}

/// From the driver to the server, exchange by exchange.
fn pass_requests(
    shared: &Shared,
    connection: u64,
    pool: &str,
    mut client: TcpStream,
    mut server: Server,
    pending: &Mutex<VecDeque<Exchange>>,
) -> io::Result<()> {
    let mut statements: HashMap<Vec<u8>, String> = HashMap::new();
    let (mut batch, mut texts) = (Vec::new(), Vec::<String>::new());
    loop {
        let (kind, message) = message(&mut client)?;
        let body = &message[5..];
        match kind {
            b'Q' => texts.push(text(body)),
            b'P' => {
                let (name, rest) = zero_ended(body);
                let query = text(rest);
                statements.insert(name.to_vec(), query.clone());
                texts.push(query);
            }
            b'B' => {
                let (_portal, rest) = zero_ended(body);
                let (name, _) = zero_ended(rest);
                texts.extend(statements.get(name).cloned());
            }
            _ => {}
        }
        batch.extend_from_slice(&message);
        match kind {
            b'Q' | b'S' => {
                texts.dedup();
                let text = std::mem::take(&mut texts).join("; ");
                let all = lock(&shared.traps).clone();
                let traps = all.into_iter().filter(|trap| trap.takes(connection, pool, &text)).collect();
                let exchange = Exchange { traps };
                let mut log = lock(&shared.log);
                if log.len() == LOGGED {
                    log.pop_front();
                }
                log.push_back(Seen { pool: pool.to_owned(), text });
                drop(log);
                if exchange.at(Moment::Before) == Onward::Ends {
                    return Ok(());
                }
                lock(pending).push_back(exchange);
                server.write_all(&batch)?;
                batch.clear();
            }
            // asks for what is there without ending the exchange, or belongs to no exchange
            b'H' | b'X' | b'p' | b'd' | b'c' | b'f' | b'F' => {
                server.write_all(&batch)?;
                batch.clear();
            }
            _ => {}
        }
    }
}

/// From the server to the driver: an exchange's answer as a whole, anything else at once.
fn pass_answers(
    mut server: Server,
    mut client: TcpStream,
    pending: &Mutex<VecDeque<Exchange>>,
) -> io::Result<()> {
    let mut answer = Vec::new();
    loop {
        let (kind, message) = message(&mut server)?;
        answer.extend_from_slice(&message);
        if kind == b'Z' {
            let exchange = lock(pending).pop_front();
            if let Some(exchange) = &exchange
                && exchange.at(Moment::Executed) == Onward::Ends
            {
                return Ok(());
            }
            client.write_all(&answer)?;
            answer.clear();
            if let Some(exchange) = &exchange
                && exchange.at(Moment::Answered) == Onward::Ends
            {
                return Ok(());
            }
        } else if lock(pending).is_empty() {
            client.write_all(&answer)?;
            answer.clear();
        }
    }
}

/// A packet without a kind: length, then the rest.
fn packet(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let rest = usize::try_from(u32::from_be_bytes(length)).unwrap().saturating_sub(4);
    let mut packet = length.to_vec();
    packet.resize(4 + rest, 0);
    from.read_exact(&mut packet[4..])?;
    Ok(packet)
}

/// A message: its kind, and all of its bytes with kind and length.
fn message(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let length = u32::from_be_bytes(head[1..].try_into().unwrap());
    let rest = usize::try_from(length).unwrap().saturating_sub(4);
    let mut message = head.to_vec();
    message.resize(5 + rest, 0);
    from.read_exact(&mut message[5..])?;
    Ok((head[0], message))
}

/// The bytes before the first zero, and those after it.
fn zero_ended(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(zero_ended(bytes).0).into_owned()
}

/// A parameter of a startup packet.
fn parameter(packet: &[u8], wanted: &str) -> Option<String> {
    let mut rest = packet.get(8..)?;
    while !rest.is_empty() {
        let (name, after) = zero_ended(rest);
        let (value, after) = zero_ended(after);
        if name == wanted.as_bytes() {
            return Some(String::from_utf8_lossy(value).into_owned());
        }
        rest = after;
    }
    None
}

/// How long a proxied exchange is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn traps_act_where_they_are_set() {
    use plimsoll_testkit::TestDb;
    let database = TestDb::empty();
    database.execute("CREATE TABLE seen (n int)");
    let proxy = Proxy::start(database.url());
    let connect = || plimsoll_storage::testing::RawConnection::open(&proxy.url).unwrap();
    let count = || database.rows("SELECT count(*)::int AS n FROM seen")[0]["n"].as_i64().unwrap();

    // Of the three moments only the first keeps the database from doing it; after the third the driver knows.
    for (moment, done, known) in
        [(Moment::Before, 0, false), (Moment::Executed, 1, false), (Moment::Answered, 2, true)]
    {
        let trap = proxy.set(Wanted::text("INSERT INTO seen").from(2), moment, Deed::Cut);
        let mut connection = connect();
        connection.execute("INSERT INTO seen SELECT 0 WHERE false").unwrap();
        assert_eq!(connection.execute("INSERT INTO seen VALUES (1)").is_ok(), known, "{moment:?}");
        assert!(trap.wait(1, PATIENCE));
        assert!(connection.execute("SELECT 1").is_err(), "the connection is closed: {moment:?}");
        let deadline = std::time::Instant::now() + PATIENCE;
        while count() != done {
            assert!(std::time::Instant::now() < deadline, "{moment:?}: {} rows", count());
        }
        assert_eq!((trap.seen(), trap.acted()), (2, 1));
        proxy.heal();
    }

    // What is held goes on when the trap is lifted.
    let trap = proxy.set(Wanted::text("VALUES (4)"), Moment::Executed, Deed::Hold);
    let mut connection = connect();
    let waiting = thread::spawn(move || connection.execute("INSERT INTO seen VALUES (4)").is_ok());
    assert!(trap.wait(1, PATIENCE));
    assert!(!waiting.is_finished());
    trap.lift();
    assert!(waiting.join().unwrap());

    proxy.shut();
    assert!(plimsoll_storage::testing::RawConnection::open(&proxy.url).is_err());
    proxy.open();
    connect().execute("SELECT 'through'").unwrap();
    assert!(proxy.exchanges().iter().any(|seen| seen.text.contains("'through'")));
}

//! The QR code beside a decoder's reading of it.

use std::process::Command;

use data_encoding::BASE64;
use plimsoll_auth::qr;
use plimsoll_auth::totp::TotpSecret;
use secrecy::ExposeSecret;

use crate::outside::run;

/// TFA-2: the QR code decodes to exactly the address.
#[test]
fn zbarimg_reads_the_address() {
    if let Err(why) = run(Command::new("zbarimg").arg("--version"), b"") {
        println!("SKIPPED: zbarimg: {why}");
        return;
    }
    let secret = TotpSecret::from_bytes(&[0xA5; 20]).unwrap();
    let folder = std::env::temp_dir().join(format!("plimsoll-qr-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (n, account) in
        ["ann@example.com", &format!("{}@{}.example", "a".repeat(64), "b".repeat(60))].iter().enumerate()
    {
        let uri = secret.uri("Plimsoll", account);
        let data = qr::data_uri(&uri).unwrap();
        let picture = data.expose_secret().strip_prefix("data:image/png;base64,").unwrap();
        let file = folder.join(format!("{n}.png"));
        std::fs::write(&file, BASE64.decode(picture.as_bytes()).unwrap()).unwrap();
        let read =
            run(Command::new("zbarimg").args(["--quiet", "--raw", "--oneshot", "--nodbus"]).arg(&file), b"");
        let read = String::from_utf8(read.unwrap().stdout).unwrap();
        assert_eq!(read.trim_end(), uri.expose_secret());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

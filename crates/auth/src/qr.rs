//! QR codes as PNG pictures.

use data_encoding::BASE64;
use qrcode::{Color, EcLevel, QrCode};
use secrecy::{ExposeSecret, SecretString};

/// Pixels of one module, in each direction.
const SCALE: usize = 6;
/// Light modules around the code (ISO/IEC 18004 wants four).
const QUIET: usize = 4;
const LIGHT: u8 = 255;
const DARK: u8 = 0;

/// The text is too long for a QR code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is too long for a QR code")]
pub struct TooLong;

/// The text as a QR code: a grey PNG.
///
/// # Errors
///
/// [`TooLong`] beyond about two thousand bytes.
pub fn png(text: &str) -> Result<Vec<u8>, TooLong> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).map_err(|_| TooLong)?;
    let modules = code.to_colors();
    let (across, side) = (code.width(), (code.width() + 2 * QUIET) * SCALE);
    let mut pixels = vec![LIGHT; side * side];
    for (row, line) in modules.chunks(across).enumerate() {
        for (column, _) in line.iter().enumerate().filter(|(_, color)| **color == Color::Dark) {
            let (top, left) = ((row + QUIET) * SCALE, (column + QUIET) * SCALE);
            for y in top..top + SCALE {
                pixels[y * side + left..][..SCALE].fill(DARK);
            }
        }
    }
    let mut picture = Vec::new();
    let length = u32::try_from(side).map_err(|_| TooLong)?;
    let mut encoder = png::Encoder::new(&mut picture, length, length);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&pixels))
        .expect("writing a picture of the announced size into memory does not fail");
    Ok(picture)
}

/// The text as a QR code in a `data:` address, to be put into a page. It tells the text, so it is as secret.
///
/// # Errors
///
/// As [`png()`].
pub fn data_uri(text: &SecretString) -> Result<SecretString, TooLong> {
    Ok(format!("data:image/png;base64,{}", BASE64.encode(&png(text.expose_secret())?)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The picture's size and its pixels, one byte each.
    fn decoded(picture: &[u8]) -> (usize, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(picture)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.color_type), (info.height, png::ColorType::Grayscale));
        (info.width as usize, pixels)
    }

    #[test]
    fn the_picture_is_the_code_with_a_light_border() {
        let text = "otpauth://totp/Plimsoll:ann%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let (side, pixels) = decoded(&png(text).unwrap());
        let code = QrCode::with_error_correction_level(text, EcLevel::M).unwrap();
        assert_eq!(side, (code.width() + 8) * 6);
        let dark = |row: usize, column: usize| {
            let inside = |at: usize| (4..code.width() + 4).contains(&at);
            inside(row) && inside(column) && code[(column - 4, row - 4)] == Color::Dark
        };
        for (at, pixel) in pixels.iter().enumerate() {
            let (row, column) = (at / side / 6, at % side / 6);
            assert_eq!(*pixel == DARK, dark(row, column), "{row} {column}");
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_refused() {
        assert_eq!(png(&"x".repeat(3000)), Err(TooLong));
        let uri = data_uri(&"short".to_owned().into()).unwrap();
        assert!(uri.expose_secret().starts_with("data:image/png;base64,iVBORw0KGgo"));
    }
}

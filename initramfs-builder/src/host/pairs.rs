// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the lines that describe a host are made of: `key=value key="value with blanks"`.
//!
//! ```text
//! driver at=0000:00:03.0 name=virtio-pci module=virtio_pci modalias=pci:v00001AF4d00001001…
//! ```
//! is a driver of what stands in the line before, where that is not a driver itself; they come from the bus on.

use super::devices::Driver;
use crate::error::Mistake;

/// Takes a line's pairs apart, up to a comment.
pub(super) fn split(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let word = rest.split([' ', '\t']).next().unwrap_or(rest);
        let (key, behind) = rest
            .split_once('=')
            .filter(|(key, _)| !key.contains([' ', '\t']))
            .ok_or_else(|| format!("`{word}` is no key=value"))?;
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => quoted
                .split_once('"')
                .ok_or_else(|| format!("a quote without its end behind `{key}=`"))?,
            None => behind.split_once([' ', '\t']).unwrap_or((behind, "")),
        };
        if value.is_empty() {
            return Err(format!("`{key}=` has no value"));
        }
        pairs.push((key.to_owned(), value.to_owned()));
        rest = behind.trim_start();
    }
    Ok(pairs)
}

/// Puts ` key=value` behind a line; nothing without a value.
///
/// # Errors
/// The value has a letter that no line can have.
pub(super) fn push(line: &mut String, key: &str, value: Option<&str>) -> Result<(), Mistake> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(());
    };
    if value.contains(['"', '\n']) {
        return Err(Mistake::new(format!(
            "{line}: `{key}` is `{}`, and no value of a description can have a double quote or a line's end",
            value.escape_debug()
        )));
    }
    let quote = if value.contains([' ', '\t', '#']) {
        "\""
    } else {
        ""
    };
    line.push_str(&format!(" {key}={quote}{value}{quote}"));
    Ok(())
}

/// What the pairs behind `driver` say.
pub(super) fn driver(pairs: &str) -> Result<Driver, String> {
    let mut driver = Driver::default();
    for (key, value) in split(pairs)? {
        match key.as_str() {
            "at" => driver.at = value,
            "name" => driver.name = Some(value),
            "module" => driver.module = Some(value),
            "modalias" => driver.modalias = Some(value),
            _ => {
                return Err(format!(
                    "unknown key `{key}`; accepted are at, name, module, modalias"
                ));
            }
        }
    }
    Ok(driver)
}

/// Adds the lines of drivers.
///
/// # Errors
/// A driver has a letter that no line can have.
pub(super) fn push_drivers(text: &mut String, drivers: &[Driver]) -> Result<(), Mistake> {
    for driver in drivers {
        let mut line = "driver".to_owned();
        push(&mut line, "at", Some(&driver.at))?;
        push(&mut line, "name", driver.name.as_deref())?;
        push(&mut line, "module", driver.module.as_deref())?;
        push(&mut line, "modalias", driver.modalias.as_deref())?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_split_again() {
        let mut line = String::new();
        for (key, value) in [("a", "1"), ("b", "two words"), ("c", ""), ("d", "x#y=z")] {
            push(&mut line, key, Some(value)).unwrap();
        }
        push(&mut line, "e", None).unwrap();
        let pairs = split(&line).unwrap();
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(pairs, [("a", "1"), ("b", "two words"), ("d", "x#y=z")]);
        let error = push(&mut line, "label", Some("a\"b")).unwrap_err();
        assert!(error.message.contains("`label`"), "{error}");
    }
}

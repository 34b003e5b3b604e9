// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which word a person meant.

/// The word that `typed` is most likely a slip of: at most one slip in three letters.
pub(super) fn nearest<'a>(
    typed: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let most = (typed.chars().count() / 3).clamp(1, 3);
    words
        .into_iter()
        .map(|word| (slips(&typed.to_lowercase(), &word.to_lowercase()), word))
        .filter(|&(slips, word)| slips <= most && word.len() > slips + 1)
        .min_by_key(|&(slips, _)| slips)
        .map(|(_, word)| word)
}

/// How many letters to put in, leave out, change or swap with their neighbour, to get from one word to the other.
fn slips(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let changed = rows[i][j] + usize::from(a != b);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted_as_a_typist_makes_them() {
        assert_eq!(slips("raw", "raw"), 0);
        assert_eq!(slips("rwa", "raw"), 1);
        assert_eq!(slips("defalt", "default"), 1);
        assert_eq!(slips("", "abc"), 3);
        assert_eq!(nearest("zzz", ["raw", "path"]), None);
    }
}

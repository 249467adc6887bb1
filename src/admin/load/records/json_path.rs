//! Paths into JSON, `legs.-1.agent` or `"queue.name".id`, as a tree of what a mapping reads. Pure.

use crate::admin::load::value::Columns;

/// The paths that are wanted, as a tree.
#[derive(Debug, Default)]
pub struct Node {
    /// The column whose value this is.
    pub column: Option<usize>,
    pub children: Vec<(Step, Node)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A key, compared without regard to case.
    Key(String),
    Index(usize),
    /// The last element.
    Last,
    /// The first element with this value at this path.
    Where(Vec<String>, String),
}

impl Node {
    pub fn of(columns: &[String]) -> Self {
        let mut root = Self::default();
        for (column, path) in columns.iter().enumerate() {
            let mut node = &mut root;
            for step in steps(path) {
                let at = node.children.iter().position(|(known, _)| *known == step).unwrap_or_else(|| {
                    node.children.push((step, Self::default()));
                    node.children.len() - 1
                });
                node = &mut node.children[at].1;
            }
            node.column = Some(column);
        }
        root
    }

    pub fn child(&self, key: &str) -> impl Iterator<Item = &Self> {
        let key = Columns::key(key);
        self.children.iter().filter(move |(step, _)| matches!(step, Step::Key(known) if *known == key)).map(|(_, n)| n)
    }
}

/// The keys of a path that goes through objects only, down to the records.
pub fn keys(path: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (key, _, after) = name(rest, &['.', '/']);
        if !key.is_empty() {
            keys.push(Columns::key(&key));
        }
        rest = after.strip_prefix(['.', '/']).unwrap_or(after);
    }
    keys
}

/// `a.items.0.x`, `a.items.-1.x`, `participants[purpose=agent].name`, `"a.b".c`.
fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(condition) = rest.strip_prefix('[') {
            let mut within = Vec::new();
            let mut after = condition;
            while !after.is_empty() && !after.starts_with(['=', ']']) {
                let (key, _, left) = name(after, &['.', '=', ']']);
                within.push(Columns::key(&key));
                after = left.strip_prefix('.').unwrap_or(left);
            }
            let (value, after) = after.split_once(']').unwrap_or((after, ""));
            steps.push(Step::Where(within, value.strip_prefix('=').unwrap_or(value).to_owned()));
            rest = after.strip_prefix('.').unwrap_or(after);
            continue;
        }
        let (key, is_quoted, after) = name(rest, &['.', '[']);
        if is_quoted {
            steps.push(Step::Key(Columns::key(&key)));
        } else if !key.is_empty() {
            steps.push(match key.parse() {
                Ok(index) => Step::Index(index),
                Err(_) if key == "-1" => Step::Last,
                Err(_) => Step::Key(Columns::key(&key)),
            });
        }
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    steps
}

/// A name up to one of these characters, whether it is in quotes, in which `""` is a quote, and what follows it.
fn name<'a>(text: &'a str, stops: &[char]) -> (String, bool, &'a str) {
    let Some(mut rest) = text.strip_prefix('"') else {
        let (name, rest) = text.split_at(text.find(stops).unwrap_or(text.len()));
        return (name.to_owned(), false, rest);
    };
    let mut name = String::new();
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return (name + rest, true, "");
        };
        name.push_str(part);
        rest = after;
        match rest.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => {
                // What stands between the quote and the next step belongs to no name.
                return (name, true, rest.split_at(rest.find(stops).unwrap_or(rest.len())).1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_keys_indexes_conditions_and_quotes() {
        let key = |name: &str| Step::Key(name.to_owned());
        for (path, expected) in [
            ("a.B.0.-1", vec![key("a"), key("b"), Step::Index(0), Step::Last]),
            ("\"a.b\".c", vec![key("a.b"), key("c")]),
            ("\"a\"\"[.]\".\"0\"", vec![key("a\"[.]"), key("0")]),
            ("p[x.y=Z].id", vec![key("p"), Step::Where(vec!["x".into(), "y".into()], "Z".into()), key("id")]),
            ("p[\"x.y\"=Z]", vec![key("p"), Step::Where(vec!["x.y".into()], "Z".into())]),
            ("p[x=]", vec![key("p"), Step::Where(vec!["x".into()], String::new())]),
            ("\"a", vec![key("a")]),
            ("\"a\"b.c", vec![key("a"), key("c")]),
            ("p[x", vec![key("p"), Step::Where(vec!["x".into()], String::new())]),
            ("..", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(steps(path), expected, "{path}");
        }
        assert_eq!(keys("data.Calls/x"), ["data", "calls", "x"]);
        assert_eq!(keys("\"data.calls\".x"), ["data.calls", "x"]);
    }
}

//! Answers of query APIs: XML without attributes that matter, read into a tree.

use quick_xml::{Reader, escape::resolve_predefined_entity, events::Event};

/// An element: its name without a prefix, its text, its children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub name: String,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// Reads a document and returns its root; `None` when it is not XML.
    pub fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader::from_str(text);
        let mut open = vec![Self::default()];
        loop {
            match reader.read_event().ok()? {
                Event::Start(tag) => open.push(Self::named(tag.local_name().as_ref())?),
                Event::Empty(tag) => {
                    let element = Self::named(tag.local_name().as_ref())?;
                    open.last_mut()?.children.push(element);
                }
                Event::End(_) => {
                    let mut element = open.pop()?;
                    let text = element.text.trim().to_owned();
                    element.text = text;
                    open.last_mut()?.children.push(element);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::CData(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::GeneralRef(entity) => {
                    let text = &mut open.last_mut()?.text;
                    match entity.resolve_char_ref().ok()? {
                        Some(character) => text.push(character),
                        None => text.push_str(resolve_predefined_entity(&entity.decode().ok()?)?),
                    }
                }
                Event::Eof => break,
                _ => {}
            }
        }
        // What was not closed is not a document.
        let [document] = <[Self; 1]>::try_from(open).ok()?;
        document.children.into_iter().next()
    }

    fn named(name: &[u8]) -> Option<Self> {
        Some(Self {
            name: std::str::from_utf8(name).ok()?.to_owned(),
            ..Self::default()
        })
    }

    /// The first descendant of that name, depth first.
    pub fn find(&self, name: &str) -> Option<&Self> {
        self.children.iter().find_map(|child| {
            if child.name == name {
                Some(child)
            } else {
                child.find(name)
            }
        })
    }

    /// The text of the first descendant of that name; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.find(name).map_or("", |element| &element.text)
    }

    /// The members of the first list of that name: its children.
    pub fn list(&self, name: &str) -> &[Self] {
        self.find(name).map_or(&[], |element| &element.children)
    }

    /// The text of a child; empty if there is none.
    pub fn child(&self, name: &str) -> &str {
        let found = self.children.iter().find(|child| child.name == name);
        found.map_or("", |element| &element.text)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_answer_is_a_tree_of_names_and_texts() {
        let root = Element::parse(
            "<?xml version=\"1.0\"?>\n<R xmlns=\"http://example.org/\">\n <Result><Groups>\
             <member><Name>a &amp; b</Name></member> <member><Name>&#99;</Name><Empty/></member>\
             </Groups></Result>\n</R>",
        )
        .unwrap();
        assert_eq!(root.name, "R");
        let names: Vec<&str> = root
            .list("Groups")
            .iter()
            .map(|one| one.child("Name"))
            .collect();
        assert_eq!(names, ["a & b", "c"]);
        assert_eq!(root.text("Nothing"), "");
    }

    #[test]
    fn what_is_not_a_document_is_nothing() {
        for text in ["", "{}", "<a><b></a>", "<a>", "</a>", "<a>&unknown;</a>"] {
            assert_eq!(Element::parse(text), None, "{text}");
        }
    }
}

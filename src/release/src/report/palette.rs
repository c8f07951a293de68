//! Colours, or none.
//!
//! `console` decides once: none when standard output is no terminal, none with `NO_COLOR`, some
//! with `CLICOLOR_FORCE`. Meaning is never carried by colour alone; every line has its sign.

use console::Style;

/// Paints text, or leaves it.
#[derive(Debug, Clone, Copy)]
pub struct Palette {
    colours: bool,
}

impl Palette {
    /// What standard output can show.
    pub fn of_stdout() -> Palette {
        Palette {
            colours: console::colors_enabled(),
        }
    }

    /// No colours: for files and tests.
    #[cfg(test)]
    pub fn plain() -> Palette {
        Palette { colours: false }
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.colours {
            style.force_styling(true).apply_to(text).to_string()
        } else {
            text.to_owned()
        }
    }

    /// What went well.
    pub fn good(self, text: &str) -> String {
        self.paint(Style::new().green(), text)
    }

    /// What went wrong.
    pub fn bad(self, text: &str) -> String {
        self.paint(Style::new().red().bold(), text)
    }

    /// What wants attention.
    pub fn warn(self, text: &str) -> String {
        self.paint(Style::new().yellow(), text)
    }

    /// What stands out.
    pub fn strong(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    /// What stands back.
    pub fn faint(self, text: &str) -> String {
        self.paint(Style::new().dim(), text)
    }

    /// The old version's traffic.
    pub fn blue(self, text: &str) -> String {
        self.paint(Style::new().blue(), text)
    }

    /// The new version's traffic.
    pub fn green(self, text: &str) -> String {
        self.paint(Style::new().green(), text)
    }
}

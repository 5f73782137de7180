//! A plain report as PDF: lines of text on pages of A4.

use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str};

/// Lines on one page.
const LINES: usize = 48;
const A4: (f32, f32) = (595.0, 842.0);
const MARGIN: f32 = 60.0;

/// Lays lines out; the first is the title.
pub(crate) fn pdf(lines: &[String]) -> Vec<u8> {
    let mut next = 0;
    let mut id = || {
        next += 1;
        Ref::new(next)
    };
    let (catalog, tree, font) = (id(), id(), id());
    let pages: Vec<(Ref, Ref, &[String])> = lines.chunks(LINES).map(|lines| (id(), id(), lines)).collect();
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(tree);
    pdf.pages(tree)
        .kids(pages.iter().map(|page| page.0))
        .count(i32::try_from(pages.len()).unwrap_or(i32::MAX));
    pdf.type1_font(font).base_font(Name(b"Helvetica"));
    for (index, (page, content, lines)) in pages.iter().enumerate() {
        let mut written = pdf.page(*page);
        written.media_box(Rect::new(0.0, 0.0, A4.0, A4.1)).parent(tree).contents(*content);
        written.resources().fonts().pair(Name(b"F1"), font);
        written.finish();
        let mut text = Content::new();
        text.begin_text();
        text.next_line(MARGIN, A4.1 - MARGIN);
        for (row, line) in lines.iter().enumerate() {
            let is_title = index == 0 && row == 0;
            text.set_font(Name(b"F1"), if is_title { 18.0 } else { 10.0 });
            text.show(Str(&latin(line)));
            text.next_line(0.0, if is_title { -28.0 } else { -14.5 });
        }
        text.end_text();
        pdf.stream(*content, &text.finish());
    }
    pdf.finish()
}

/// The built-in font knows one byte per character.
fn latin(text: &str) -> Vec<u8> {
    text.chars().take(110).map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

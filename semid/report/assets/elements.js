// Addresses, and small elements to put together.

function go(path) {
  location.hash = `p=${spelled(path)}`;
}
function goTo(catalog, item) {
  location.hash = `i=${encodeURIComponent(catalog.ids[item])}`;
}
// An address may have been typed by hand.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
function isWeb(url) {
  return /^https?:\/\//i.test(url);
}
function link(text, href) {
  return Object.assign(document.createElement("a"), { textContent: text, href });
}
function heading(text, name = "h3") {
  return Object.assign(document.createElement(name), { textContent: text, dir: "auto" });
}
function note(text, name = "p") {
  return Object.assign(document.createElement(name), { className: "note", textContent: text });
}

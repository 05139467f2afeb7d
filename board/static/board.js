"use strict";
// A double click sends a form once. The server refuses the second one, too.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  if (form.method === "post") {
    form.dataset.sent = "yes";
    for (const button of form.querySelectorAll("button")) setTimeout(() => { button.disabled = true; });
  }
});
// A page from the browser's history would have its sent forms disabled: load it again.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

// Replace the contents of a data-refresh element every so many seconds, without touching forms in use.
for (const list of document.querySelectorAll("[data-refresh]")) {
  setInterval(async () => {
    if (document.hidden) return;
    const answer = await fetch(location.href, { headers: { "X-Refresh": "yes" } }).catch(() => null);
    if (!answer || !answer.ok) return;
    if (answer.redirected) { location.reload(); return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(list.id);
    if (fresh) update(list, fresh);
  }, Number(list.dataset.refresh) * 1000);
}

// Fill a data-load element from its own page, which is slow, once this page is shown.
for (const place of document.querySelectorAll("[data-load]")) {
  fetch(place.dataset.load).then((answer) => answer.text()).then((text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html").getElementById(place.id);
    if (fresh) place.replaceChildren(...fresh.childNodes);
  }).catch(() => null);
}

// An answer holds a few megabytes at most: read a data-ranges link in parts, and save them as one file.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[download]");
  if (!link || link.dataset.busy || !link.dataset.ranges) return;
  event.preventDefault();
  link.dataset.busy = "yes";
  const text = link.textContent;
  const parts = [];
  try {
    for (let read = 0, size = 1; read < size; ) {
      const answer = await fetch(link.href, { headers: { Range: `bytes=${read}-` } });
      if (answer.status !== 206) throw new Error(answer.status);
      const part = await answer.blob();
      size = Number(answer.headers.get("Content-Range").split("/")[1]);
      read += part.size;
      parts.push(part);
      link.textContent = `${Math.round((100 * read) / size)} %`;
    }
    const file = document.createElement("a");
    file.href = URL.createObjectURL(new Blob(parts));
    file.download = link.download;
    file.click();
    URL.revokeObjectURL(file.href);
  } catch {
    // Open the link itself, so that the browser shows the error.
    location.assign(link.href);
  }
  link.textContent = text;
  delete link.dataset.busy;
});

// Update a list: keep the forms of known items, add new items, and remove old ones unless somebody types in them.
function update(list, fresh) {
  const old = new Map([...list.querySelectorAll("[data-item]")].map((item) => [item.dataset.item, item]));
  const items = [...fresh.querySelectorAll("[data-item]")].map((item) => {
    const known = old.get(item.dataset.item);
    if (!known) return item;
    for (const part of item.querySelectorAll("[data-part]")) {
      const here = known.querySelector(`[data-part="${part.dataset.part}"]`);
      if (here && here.innerHTML !== part.innerHTML) here.innerHTML = part.innerHTML;
    }
    return known;
  });
  const busy = [...old.values()].filter((item) => !items.includes(item) && (item.contains(document.activeElement) || isTyped(item)));
  if (items.length === 0 && busy.length === 0) {
    list.replaceChildren(...fresh.childNodes);
    return;
  }
  const holder = list.querySelector("[data-items]");
  if (!holder) {
    list.replaceChildren(...fresh.childNodes);
    return;
  }
  const wanted = [...busy, ...items];
  for (const child of [...holder.children]) if (!wanted.includes(child)) child.remove();
  wanted.forEach((item, index) => {
    if (holder.children[index] !== item) {
      // Moving an element would take the focus from it.
      if (!holder.contains(item)) holder.insertBefore(item, holder.children[index] || null);
    }
  });
}

function isTyped(item) {
  return [...item.querySelectorAll("input:not([type=hidden]), textarea")].some((field) => field.value !== field.defaultValue);
}

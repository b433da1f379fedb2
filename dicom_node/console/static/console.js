// The pages work without this script; with it, what they show stays fresh.
"use strict";

// Times are written in UTC; the reader's own time stands in the tooltip.
function showLocalTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    element.title = new Date(element.dateTime).toLocaleString();
  }
}

// Replace a part of the page by the same part of the page as it is now. A part keeps its place
// while somebody's keyboard is in it.
async function refresh(part, address, index) {
  if (document.hidden || part.contains(document.activeElement)) return;
  const answer = await fetch(address, { headers: { accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = index === null ? page.querySelector("[data-part]") : page.querySelectorAll("[data-refresh]")[index];
  if (!fresh) return;
  part.replaceChildren(...fresh.childNodes);
  showLocalTimes(part);
}

function keepFresh(part, index) {
  const own = part.dataset.load;
  const again = () => refresh(part, own || location.href, own ? null : index).catch(() => {});
  if (own) again();
  setInterval(again, Number(part.dataset.refresh) * 1000);
}

showLocalTimes(document);
document.querySelectorAll("[data-refresh]").forEach(keepFresh);

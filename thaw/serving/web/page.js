// The page: images in, a list of answers out. `classify` and what is around it come from server.js or demo.js.

const UNFAMILIAR = "unlike the training images";
const LISTED = 5; // classes shown at once, the likeliest; all others are behind a click
const THUMB = 192; // pixels, twice what it is shown at

const at = (id) => document.getElementById(id);
const classes = JSON.parse(at("classes").textContent);
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const entries = []; // the newest first, as they are listed
const waiting = [];
let running = 0;

const make = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

const named = classes.slice(0, 12).join(" · ") + (classes.length > 12 ? " · …" : "");
const longest = Math.max(...classes.map((name) => name.length));
document.documentElement.style.setProperty("--name", `${longest + 1}ch`); // the width of the names before the bars
at("about").textContent = `${classes.length} classes: ${named}`;
at("where").textContent = WHERE;

function add(files) {
  for (const file of files) {
    const entry = { file, name: file.name || "pasted image", item: make("li") };
    entry.picture = make("div", "picture", "…");
    entry.body = make("div");
    entry.body.append(make("p", "name", entry.name), make("p", "label", "…"));
    entry.item.append(entry.picture, entry.body);
    entries.unshift(entry);
    waiting.push(entry);
    at("list").prepend(entry.item);
  }
  update();
  while (running < AT_ONCE && waiting.length) work();
}

async function work() {
  running += 1;
  for (let entry = waiting.shift(); entry; entry = waiting.shift()) {
    if (entry.gone) continue;
    await Promise.all([picture(entry), answer(entry)]);
    entry.file = undefined; // so that many large files need not stay in memory
    if (!entry.gone) update(entry);
  }
  running -= 1;
}

async function picture(entry) {
  try {
    const bitmap = await createImageBitmap(entry.file, { imageOrientation: "from-image" });
    const scale = Math.min(1, THUMB / Math.max(bitmap.width, bitmap.height));
    const canvas = make("canvas", Math.max(bitmap.width, bitmap.height) < THUMB / 2 ? "small" : "");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    canvas.setAttribute("aria-hidden", "true"); // its name and its label say what it is
    entry.picture.replaceChildren(canvas);
  } catch {
    entry.picture.textContent = "no preview";
  }
}

async function answer(entry) {
  try {
    entry.answer = await classify(entry.file);
  } catch (error) {
    entry.error = String(error.message || error);
  }
}

function ranked(answer) {
  return Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
}

function bars(rows) {
  const list = make("ul", "bars");
  for (const [name, share] of rows) {
    const track = make("span", "track");
    const filled = make("span");
    filled.style.width = `${100 * share}%`;
    track.setAttribute("aria-hidden", "true");
    track.append(filled);
    const title = make("span", "", name);
    title.title = name;
    const row = make("li");
    row.append(title, track, make("span", "", percent(share)));
    list.append(row);
  }
  return list;
}

function show(entry) {
  const shown = [make("p", "name", entry.name)];
  if (entry.error) {
    shown.push(make("p", "error", entry.error));
  } else {
    const label = make("p", "label", entry.answer.label);
    label.append(make("small", "", percent(entry.answer.probability)));
    const rows = ranked(entry.answer);
    const first = bars(rows.slice(0, LISTED));
    first.setAttribute("aria-label", `Probabilities of ${entry.name}`);
    shown.push(label, ...(entry.answer.unfamiliar ? [make("p", "unfamiliar", UNFAMILIAR)] : []), first);
    if (rows.length > LISTED) {
      const more = make("details");
      more.append(make("summary", "", `${rows.length - LISTED} more classes`));
      // Made when asked for: a thousand classes times a hundred images are many elements.
      more.addEventListener("toggle", () => more.open && more.children.length < 2 && more.append(bars(rows.slice(LISTED))));
      shown.push(more);
    }
  }
  entry.body.replaceChildren(...shown);
}

function update(entry) {
  if (entry) {
    show(entry);
    at("said").textContent = entry.error
      ? `${entry.name}: ${entry.error}`
      : `${entry.name}: ${entry.answer.label}, ${percent(entry.answer.probability)}${entry.answer.unfamiliar ? `, ${UNFAMILIAR}` : ""}`;
  }
  const done = entries.filter((each) => each.answer || each.error).length;
  at("count").textContent = entries.length ? `${done} of ${entries.length}` : "";
  at("empty").hidden = entries.length > 0;
  at("clear").disabled = !entries.length;
  at("export").disabled = !done;
  at("list").setAttribute("aria-busy", String(done < entries.length));
}

// As thaw predict --csv writes it. A spreadsheet runs text that begins like a formula, so an apostrophe goes before it.
function cell(value) {
  if (typeof value === "number") return String(value);
  const text = /^'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv() {
  const scored = entries.some((each) => each.answer?.unfamiliarity !== undefined);
  const more = (value) => (scored ? [value] : []);
  const rows = [["path", "label", "probability", ...classes.map((name) => `probability: ${name}`), ...more("unfamiliarity"), "error"]];
  for (const each of [...entries].reverse()) {
    if (each.answer) {
      const shares = classes.map((name) => each.answer.probabilities[name]);
      rows.push([each.name, each.answer.label, each.answer.probability, ...shares, ...more(each.answer.unfamiliarity), ""]);
    } else if (each.error) {
      rows.push([each.name, "", "", ...classes.map(() => ""), ...more(""), each.error]);
    }
  }
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}

at("export").addEventListener("click", () => {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "predictions.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});

at("clear").addEventListener("click", () => {
  for (const entry of entries) entry.gone = true;
  entries.length = 0;
  waiting.length = 0;
  at("list").replaceChildren();
  at("said").textContent = "The list is empty";
  update();
  at("files").focus();
});

at("files").addEventListener("change", (event) => {
  add([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
});
let inside = 0; // elements under the pointer: it enters one before it leaves another
addEventListener("dragenter", (event) => { event.preventDefault(); inside += 1; document.body.classList.add("over"); });
addEventListener("dragleave", () => { inside -= 1; if (inside <= 0) document.body.classList.remove("over"); });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("over");
  add([...event.dataTransfer.files]);
});
addEventListener("paste", (event) => add([...(event.clipboardData?.files ?? [])]));
document.body.dataset.ready = "yes";

// Fields of a form, each made from the schema of a parameter.

import { h } from "./dom.js";

// field makes a label, an input and a place for a problem. value() is what is to be sent; undefined: nothing.
export function field(name, s, required) {
  const id = `parameter-${name}`;
  const help = h("p", { className: "help", id: `${id}-help` }, [s.description, range(s)].filter(Boolean).join(" "));
  const problem = h("p", { className: "problem", id: `${id}-problem` });
  const { input, around, value } = control(s, id);
  input.setAttribute("aria-describedby", `${id}-help ${id}-problem`);
  if (required) input.required = true;
  const label = h("label", { htmlFor: id }, s.title + (required ? " *" : ""));
  const element = s["x-type"] === "boolean"
    ? h("div", {}, h("label", { className: "line" }, input, s.title), help, problem)
    : h("div", {}, label, around ?? input, help, problem);
  return {
    name, element, value,
    advanced: s["x-advanced"] === true,
    focus: () => input.focus(),
    problem(text) {
      problem.textContent = text;
      input.setAttribute("aria-invalid", text ? "true" : "false");
    },
  };
}

function range(s) {
  if (s["x-type"] !== "integer" && s["x-type"] !== "number" || s["x-seed"]) return "";
  if (s.minimum !== undefined && s.maximum !== undefined) return `From ${s.minimum} to ${s.maximum}.`;
  return "";
}

function control(s, id) {
  switch (s["x-type"]) {
    case "boolean": {
      const input = h("input", { id, type: "checkbox", checked: s.default === true });
      return { input, value: () => input.checked };
    }
    case "picture": return picture(s, id);
    case "integer":
    case "number": return number(s, id);
  }
  if (s.enum) {
    const input = h("select", { id }, ...s.enum.map((v) => h("option", { value: v }, v)));
    if (s.default !== undefined) input.value = s.default;
    else input.prepend(h("option", { value: "" }, "choose"));
    return { input, value: () => input.value || undefined };
  }
  const input = s["x-multiline"] ? h("textarea", { id, rows: 3 }) : h("input", { id, type: "text" });
  input.value = s.default ?? "";
  return { input, value: () => (input.value === "" && s.default === undefined ? undefined : input.value) };
}

// number is a text field, since seeds have more digits than the browser's own number fields keep.
function number(s, id) {
  const input = h("input", { id, type: "text", inputMode: s["x-type"] === "integer" && !(s.minimum < 0) ? "numeric" : "text", autocomplete: "off" });
  input.value = s.default === undefined ? "" : String(s.default);
  const value = () => {
    const text = input.value.trim();
    if (text === "") return undefined;
    if (/^-?\d+$/.test(text)) return BigInt(text);
    const n = Number(text);
    return Number.isFinite(n) ? n : text;
  };
  if (!s["x-seed"]) return { input, value };
  input.placeholder = "random";
  const dice = h("button", { type: "button", "aria-label": "Pick a seed", title: "Pick a seed" },
    h("img", { src: "/comfyrun/dice.svg", alt: "", width: 22, height: 22 }));
  dice.addEventListener("click", () => {
    const [high, low] = crypto.getRandomValues(new Uint32Array(2));
    let seed = (BigInt(high & 0x1fffff) << 32n) | BigInt(low);
    const min = BigInt(s.minimum ?? 0), max = BigInt(s.maximum ?? Number.MAX_SAFE_INTEGER);
    if (seed < min || seed > max) seed = min + (seed % (max - min + 1n));
    input.value = String(seed);
  });
  return { input, around: h("div", { className: "with-button" }, input, dice), value };
}

function picture(s, id) {
  const input = h("input", { id, type: "file", accept: "image/png,image/jpeg,image/webp,image/gif,image/bmp" });
  const shown = h("img", { className: "preview", alt: "", hidden: true });
  input.addEventListener("change", () => {
    if (shown.src) URL.revokeObjectURL(shown.src);
    shown.hidden = !input.files[0];
    if (input.files[0]) shown.src = URL.createObjectURL(input.files[0]);
  });
  const usual = s.default === undefined ? null : h("p", { className: "help" }, `Without a file: ${s.default}`);
  return { input, around: h("div", {}, input, ...(usual ? [usual] : []), shown), value: () => input.files[0] };
}

// Small things that every part of the page says or shows.

export function hueOf(name) {
  // The same colour for the same name, in every browser.
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 65521;
  return Math.round((hash * 137.508) % 360); // the golden angle: names that are alike are not
}

export function speak(text) {
  // For those who hear the page.
  document.querySelector("#spoken").textContent = text;
}

export function toast(text, action, then) {
  const box = document.createElement("div");
  const line = document.createElement("span");
  line.textContent = text;
  box.append(line);
  if (action) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = action;
    button.addEventListener("click", () => {
      box.remove();
      then();
    });
    box.append(button);
  }
  document.querySelector("#toasts").append(box);
  setTimeout(() => box.remove(), 6000);
}

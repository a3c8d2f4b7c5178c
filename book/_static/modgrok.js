// The widgets' front end leaves slider handles and pictures without names; screen readers get them here.
function name(root) {
  for (const slider of root.querySelectorAll(".widget-slider, .widget-hslider")) {
    const handle = slider.querySelector(".noUi-handle");
    if (!handle) continue;
    const set = (attribute, text) => {
      if (text && handle.getAttribute(attribute) !== text) handle.setAttribute(attribute, text);
    };
    set("aria-label", slider.querySelector(".widget-label")?.textContent);
    set("aria-valuetext", slider.querySelector(".widget-readout")?.textContent);
  }
  for (const picture of root.querySelectorAll("img.widget-image[title]")) {
    picture.alt = picture.title;
    picture.removeAttribute("title");
  }
}
document.addEventListener("DOMContentLoaded", () => {
  new MutationObserver(() => name(document)).observe(document.body, {
    childList: true,
    subtree: true,
    characterData: true,
  });
});

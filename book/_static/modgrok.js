// A wide table or formula scrolls by itself; the keyboard must reach it too.
document.addEventListener("DOMContentLoaded", () => {
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth + 1) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const wide of document.querySelectorAll(".bd-article :is(div.math, pre, div.cell_output, .pst-scrollable-table-container)"))
    watch.observe(wide);
});

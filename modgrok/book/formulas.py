"""Formulas as MathML: browsers draw it themselves, without a script, fonts or a reflow, and screen readers read it."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

log = logging.getLogger(__name__)


def setup(app) -> None:
    """Make this the way in which Sphinx writes formulas in HTML."""
    app.add_post_transform(KeepPunctuation)
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_display_formula, None))


class KeepPunctuation(SphinxPostTransform):
    """Browsers break lines between a formula and the full stop after it, unless one element holds both."""

    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for formula in list(self.document.findall(nodes.math)):
            following = formula.parent[formula.parent.index(formula) + 1 :][:1]
            for text in following:
                if isinstance(text, nodes.Text) and text.startswith(tuple(",.;:!?)")):
                    formula["punctuation"] = text[0]
                    formula.parent.replace(text, nodes.Text(text[1:]))


def _mathml(self, node, as_block: bool) -> str:
    try:
        return tex2mathml(node.astext().replace(r"\dots", r"\ldots"), as_block=as_block)
    except MathError as error:
        log.warning("formula: %s", error, location=node)
        return f"<code>{self.encode(node.astext())}</code>"


def _inline_formula(self, node) -> None:
    self.body.append(f'<span class="math notranslate nohighlight">{_mathml(self, node, False)}')
    self.body.append(f"{node.get('punctuation', '')}</span>")
    raise nodes.SkipNode


def _display_formula(self, node) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(f"{_mathml(self, node, True)}</div>\n")
    raise nodes.SkipNode

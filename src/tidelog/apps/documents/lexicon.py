"""Word lists: what makes a question a question and says nothing of its subject, and English forms no rule can find."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


def _listed(text: str) -> list[str]:
    return text.split()


ENGLISH: Final = frozenset(
    _listed("""
    a an the is are was were be been being am do does did done doing can could will would shall should may might must
    have has had having i you he she it we they me him her us them my your his our their its mine yours ours this that
    these those there here what which who whom whose when where why how if in on at to of for from by with about as and
    or but not no nor so than then too very just into onto out up down off s t d ll re ve m don doesn didn isn aren
    wasn won cannot tell show explain describe please give know want need happen happens any some much many get got
    let say says mean means use used using all back
    """)
)

# "How long may I keep it?" asks for a figure; a text that says "long" is no better for it.
HOW_MUCH: Final = re.compile(r"\bhow (?:much|many|long|far|often|old|fast|big|soon|late|early)\b|\bwhat time\b")

_CHINESE: Final = _listed("""
    什么时候 什么地方 什么样 什么 为什么 为何 怎么办 怎么样 怎么 怎样 如何 何时 多少钱 多少 多久 多长时间 多长 多远
    多大 多高 多快 几点 几个 几天 几次 几种 几位 哪里 哪儿 哪些 哪个 哪种 哪家 哪 谁 是否 是不是 有没有 能不能
    可不可以 要不要 会不会 可以 能否 需要 应该 必须 吗 呢 吧 啊 呀 的话 的 了 是 我们 你们 他们 我 你 您 它 请问 请
    告诉 一下 这个 那个 这些 那些 如果 关于 介绍 说明 解释 知道 是指
""")

# Real words that hold a stop word: kept whole, or 目的地 would fall to pieces.
_KEPT: Final = _listed("""
    目的地 目的 的士 的确 了解 为了 是非 但是 于是 你好 自我 邀请 申请 请假 请求 说明书 解释器 介绍信 没有
""")

_STOPS: Final = "|".join(sorted(_CHINESE, key=len, reverse=True))
_WHOLE: Final = "|".join(sorted(_KEPT, key=len, reverse=True))

# Cuts a run of CJK characters at stop words: each match is a stop word, or in group `kept` the text before the next.
SPLITS: Final = re.compile(rf"(?P<kept>(?:{_WHOLE}|(?!{_STOPS}).)+)|(?:{_STOPS})")

# Characters too common to hint at anything alone, though they are halves of good words (功能, 会员, 地址).
FAINT: Final = frozenset("能会要有在和与及或对从到给地得过着就都也可以这那不一个上下中里把被让用为之其所于没")

_IRREGULAR_PAIRS: Final = _listed("""
    lost lose losing lose broke break broken break bought buy paid pay sent send kept keep left leave stole steal stolen
    steal found find built build wrote write written write ran run running run began begin begun begin chose choose
    chosen choose gave give given give took take taken take went go gone go made make sold sell told tell held hold
    rode ride ridden ride drove drive driven drive brought bring caught catch thought think taught teach met meet lent
    lend spent spend felt feel forgot forget forgotten forget froze freeze frozen freeze hid hide hidden hide knew know
    known know grew grow grown grow threw throw thrown throw wore wear worn wear spoke speak spoken speak stood stand
    understood understand children child men man women woman people person feet foot teeth tooth mice mouse criteria
    criterion indices index indexes index vertices vertex
""")
IRREGULAR: Final[Mapping[str, str]] = MappingProxyType(
    dict(zip(_IRREGULAR_PAIRS[::2], _IRREGULAR_PAIRS[1::2], strict=True))
)

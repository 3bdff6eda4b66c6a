"""Answers are extracted and judged right: own cases both ways, oracles on real golds, hostile text, processes."""

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wcse_lib.answers import equal as answers
from wcse_lib.answers.equal import DEFAULT, POLICY_TABLE, VERIFIER, Checker, Policy, equivalent
from wcse_lib.answers.extraction import STYLES, extract

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(
    not DATA.exists(), reason=f"the shared data are not at {DATA.name}/ beside the project"
)

# Pairs "prediction ~ gold", separated by ";;".
EQUAL = r"""
42 ~ 42 ;; 042 ~ 42 ;; 42.0 ~ 42 ;; 42. ~ 42 ;; +7 ~ 7 ;; .25 ~ 0.25 ;; 0.25 ~ \frac14 ;; 3/4 ~ 0.75
12,345 ~ 12345 ;; 12 345 ~ 12345 ;; 12{,}345 ~ 12345 ;; 12\,345 ~ 12345 ;; 1,\!234,\!567 ~ 1234567
1,234.50 ~ 1234.5 ;; -8 ~ −8 ;; 1e3 ~ 1000 ;; 2.5E-3 ~ 0.0025 ;; 3 \times 10^{4} ~ 30000 ;; 3 x 10^4 ~ 30000
6.02*10^23 ~ 6.02\times10^{23} ;; ½ ~ 0.5 ;; 2½ ~ 2.5 ;; 3 1/4 ~ 13/4 ;; 3\frac14 ~ 3.25
-2\frac{1}{3} ~ -\frac{7}{3} ;; 6/8 ~ 3/4 ;; -6/-8 ~ 3/4 ;; \dfrac{22}{7} ~ \frac{22}{7} ;; \tfrac{22}7 ~ 22/7
\frac{-3}{5} ~ -\frac35 ;; \frac{3}{-5} ~ -0.6 ;; 0.\overline{36} ~ \frac{4}{11} ;; 0.1\overline{6} ~ 1/6
0.\bar{3} ~ \frac{1}{3} ;; 0.333... ~ 1/3 ;; 5! ~ 120 ;; \binom{6}{2} ~ 15 ;; \frac{10!}{8!} ~ 90
2^{10} ~ 1024 ;; 2^10 ~ 1024 ;; 2**10 ~ 1024 ;; 10^{-2} ~ 0.01 ;; \frac{1}{2004!} ~ \frac{2005}{2005!}
3 million ~ 3000000 ;; 3 million ~ 3,000,000 ;; \left(\frac{1}{2}\right)^3 ~ 0.125 ;; \lfloor 3.7 \rfloor ~ 3
\lceil 3.2\rceil ~ 4 ;; |-5| ~ 5 ;; \sqrt{16} ~ 4 ;; \sqrt[3]{-27} ~ -3 ;; 27^{1/3} ~ 3 ;; 4^{3/2} ~ 8
\sqrt{8} ~ 2\sqrt{2} ;; sqrt(8) ~ 2\sqrt2 ;; 2√2 ~ \sqrt{8} ;; \frac{1}{\sqrt{3}} ~ \frac{\sqrt3}{3}
4*sqrt(3)/3 ~ \frac{4}{\sqrt3} ;; \frac{\sqrt{6}+\sqrt{2}}{4} ~ \cos 15^\circ ;; \sin\frac{\pi}{6} ~ 1/2
\log_2 8 ~ 3 ;; \log_{10}{1000} ~ 3 ;; \frac{\ln 8}{\ln 2} ~ 3 ;; \ln e^2 ~ 2 ;; 2\log 3 ~ \log 9
e^{\ln 5} ~ 5 ;; e^{2} ~ \mathrm{e}^2 ;; e^{i\pi} ~ -1 ;; (1+i)^2 ~ 2i ;; 3-4 i ~ 3 - 4i ;; 2i+3 ~ 3+2i
\frac{1}{i} ~ -i ;; \sqrt{-4} ~ 2i ;; 2pi ~ 2\pi ;; π/4 ~ \frac{\pi}{4} ;; \frac\pi4 ~ \pi/4
\frac{3}{4}\pi ~ \frac{3\pi}{4} ;; \cos \pi ~ -1 ;; \tan 45^\circ ~ 1 ;; \sin^2 30^\circ ~ 1/4
\sin^{-1}(1) ~ \frac{\pi}{2} ;; \arctan 1 ~ \pi/4 ;; \frac{1+\sqrt5}{2} ~ \frac{2}{\sqrt{5}-1}
\sqrt{3+2\sqrt2} ~ 1+\sqrt{2} ;; \infty ~ +∞ ;; infinity ~ \infty ;; -\infty ~ -∞ ;; x^2+2x+1 ~ (x+1)^2
(x-1)(x+1) ~ x^2-1 ;; 2(x+3) ~ 2x+6 ;; x(x+1)/2 ~ \frac{x^2+x}{2} ;; 1/2 x ~ \frac{x}{2}
\frac{x}{2}+\frac{1}{2} ~ \frac{x+1}{2} ;; a b ~ ab ;; ba ~ ab ;; 1-\sin^2 t ~ \cos^2 t
2\sin x\cos x ~ \sin 2x ;; \frac{x^2-1}{x-1} ~ x+1 ;; x^{-1} ~ 1/x ;; \sqrt{x^2} ~ |x| ;; n!/(n-1)! ~ n
x^{2/3} ~ \sqrt[3]{x^2} ;; 2^{n+1} ~ 2 \cdot 2^n ;; \theta/2 ~ \frac{\theta}{2} ;; x_1+x_2 ~ x_2 + x_1
\frac{a}{b}\cdot c ~ \frac{ac}{b} ;; 36x\sqrt{35x} ~ 36\sqrt{35}x^{3/2} ;; x = 5 ~ 5 ;; 5 ~ x=5 ;; x=5 ~ x = 5.0
y = 2x+1 ~ 2x+1 ;; y=2x+1 ~ y = 1 + 2x ;; y - 2x = 1 ~ y=2x+1 ;; 2x+3y=6 ~ 4x + 6y - 12 = 0
x^2+y^2=13 ~ x^2 + y^2 - 13 = 0 ;; 3=x ~ x=3 ;; f(x) = x^2 ~ x^2 ;; AB = 12 ~ 12 ;; S=\{1,2\} ~ \{1,2\}
x=1/3≈0.333 ~ 1/3 ;; x = 2+3 = 5 ~ 5 ;; x \approx 11 ~ 11 ;; P(A) = 1/2 ~ 0.5 ;; \text{Area} = 6\pi ~ 6\pi
a=1, b=2 ~ (a,b)=(1,2) ;; b=2, a=1 ~ a=1,b=2 ;; a=1,b=2 ~ (1,2) ;; x=1 or x=2 ~ 1, 2
x=1 \text{ or } x=2 ~ \{1,2\} ;; x_1=3, x_2=4 ~ 3,4 ;; n=2,3,4 ~ 2,3,4 ;; x=\pm 2 ~ 2,-2 ;; 1, 2 ~ 2,1
1 and 2 ~ 1,2 ;; 1 \text{ and } 2 ~ 1, 2 ;; 1, 2, and 3 ~ 1,2,3 ;; \{1,2\} ~ 1,2 ;; \{2,1\} ~ \{1,2\}
\{1,1,2\} ~ \{1,2\} ;; {1,2} ~ \{1, 2\} ;; (1,2) ~ ( 1 , 2 ) ;; \left(\tfrac12,3\right) ~ (0.5, 3)
1,2 ~ (1,2) ;; \langle 1,2,3\rangle ~ (1,2,3) ;; \begin{pmatrix}1\\2\end{pmatrix} ~ (1,2) ;; \emptyset ~ \{\}
∅ ~ \varnothing ;; \pm\sqrt{5} ~ \sqrt5, -\sqrt5 ;; 1\pm\sqrt{19} ~ 1+\sqrt{19}, 1-\sqrt{19}
\frac{-1\pm\sqrt5}{2} ~ \frac{-1+\sqrt5}{2},\frac{-1-\sqrt5}{2} ;; {5} ~ 5 ;; \{5\} ~ 5
(1,2),(3,4) ~ (3,4), (1,2) ;; 1; 2 ~ 1,2 ;; [0,1) ~ \left[0, 1\right) ;; [0, 0.5] ~ [0,\frac12]
x \in [1,2] ~ [1,2] ;; 1 < x < 2 ~ (1,2) ;; 1 \leq x \leq 2 ~ [1,2] ;; x>3 ~ (3,\infty) ;; x \ge 3 ~ [3, ∞)
x<=2 ~ (-\infty, 2] ;; 2 >= x ~ x \leq 2 ;; 3 < x ~ x > 3 ;; -x > -1 ~ x < 1 ;; 2x>6 ~ 4x > 12
x<1 \text{ or } x>3 ~ (-\infty,1)\cup(3,\infty) ;; (3,\infty)\cup(-\infty,1) ~ (-\infty,1) \cup (3,\infty)
\mathbb{R} ~ (-\infty,\infty) ;; all real numbers ~ \mathbb R
\mathbb{R}\setminus\{3\} ~ (-\infty,3)\cup(3,\infty) ;; x \neq 3 ~ (-\infty,3)\cup(3,\infty)
\{x \mid x > 3\} ~ (3,\infty) ;; x>1 and x<3 ~ (1,3) ;; \{-1\}\cup[0,7) ~ [0,7) \cup \{-1\}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} ~ \begin{bmatrix}1&2\\3&4\end{bmatrix}
\begin{pmatrix}0.5\\2\end{pmatrix} ~ \begin{pmatrix}\frac12\\ \frac{4}{2}\\ \end{pmatrix}
\left[\begin{array}{cc}1&2\\3&4\end{array}\right] ~ \begin{pmatrix}1&2\\3&4\end{pmatrix}
[[1,2],[3,4]] ~ \begin{pmatrix}1&2\\3&4\end{pmatrix} ;; 5 ~ 5\text{ cm} ;; 5 cm ~ 5 ;; 5\text{ cm}^2 ~ 5
1,000.99 m² ~ 1000.99 ;; 5 m^2 ~ 5 ;; 5 m^2 ~ 5m^2 ;; 5 m³ ~ 5\text{ m}^3 ;; 3 \pmod{7} ~ 3 ;; x \equiv 3 \pmod 7 ~ 3
3\text{ (mod 7)} ~ 3 \bmod 7 ;; 10 \pmod{7} ~ 3 \pmod 7 ;; x≡-4 (mod 7) ~ 3 \pmod{7} ;; 2, 5 \pmod 7 ~ 5, 2 \pmod 7
5 cm^2 ~ 5\text{ square centimeters} ;; 5cm ~ 5 cm ;; 12 apples ~ 12 ;; 25 \, \text{km} ~ 25 kilometers
\$5 ~ 5 ;; $5.00 ~ \$5 ;; $1,250 ~ 1250 ;; 5 dollars ~ \$5 ;; €7 ~ 7 ;; 7 euros ~ €7
99\pi \text{ square inches} ~ 99\pi ;; 10% ~ 10\% ;; 10 ~ 10\% ;; 0.1 ~ 10\% ;; 10 percent ~ 10% ;; 35% ~ 35
50% ~ \frac12 ;; 12.5\% ~ \frac18 ;; 90° ~ 90^{\circ} ;; 90 degrees ~ 90^\circ ;; \frac{\pi}{2} ~ 90^\circ
10 miles per hour ~ 10 ;; 2 hours ~ 2 ;; 12^{th} ~ 12 ;; 12^{\text{th}} ~ 12 ;; 3rd ~ 3 ;; 5\text{ m/s} ~ 5
\frac{68}{3}\text{ pounds} ~ 68/3 ;; 90\text{ square units} ~ 90 ;; 1101_2 ~ 1101_{2} ;; 1101_{two} ~ 1101_2
2A_{16} ~ 2a_{16} ;; 42_{10} ~ 42 ;; 2:30 pm ~ 2:30 PM ;; 2:30 p.m. ~ \text{2:30 PM} ;; 14:30 ~ 2:30 pm
2:30 ~ 2:30 pm ;; 2 pm ~ 2:00 pm ;; 4:6 ~ 2:3 ;; 2:3 ~ \frac23 ;; 1:2:3 ~ 2:4:6 ;; tuesday ~ \text{Tuesday}
Tuesday. ~ Tuesday ;; \textbf{Yes} ~ yes ;; the circle ~ circle ;; C ~ \text{(C)} ;; (C) ~ C
\textbf{(C)}\ 12 ~ C ;; (C) 12 ~ C ;; C. 12 ~ (C) ;; B, C ~ \text{C, B} ;; \overline{CD} ~ CD
\angle ABC ~ ABC ;; no ~ \text{no} ;; \boxed{7} ~ 7 ;; $7$ ~ 7 ;; \(7\) ~ 7 ;; **7** ~ 7 ;; 7. ~ 7
\text{13} ~ 13 ;; $x=\frac{1}{2}$. ~ 1/2 ;; １２ ~ 12 ;; 1,5 ~ 1.5 ;; 30 ~ 30^\circ
\sqrt{1/k} ~ \frac{1}{\sqrt{k}} ;; 2.000.000 ~ 2000000 ;; (-inf, 3) ~ (-\infty,3) ;; five ~ 5
$\frac{3}{4}$ of the cake ~ 3/4 ;; 1000,5 ~ 1000.5 ;; \sqrt{7}\approx 2.646 ~ \sqrt7
2abc ~ 2bca ;; x+xyz ~ xyz+x ;; 3xyz^2 ~ 3yxz^2 ;; abc ~ a\cdot b\cdot c ;; xyz ~ zyx ;; \text{ABC} ~ ABC ;; 5m/s ~ 5 ;; 5 sq. ft. ~ 5
x(x+1)=6 ~ x^2+x=6 ;; f(2x+1) = x ~ x ;; P(A \cup B) = 1/2 ~ 0.5 ;; d(A,B)=5 ~ 5 ;; x \not= 3 ~ x \ne 3 ;; xⁿ ~ x^n ;; 2ⁿ⁺¹ ~ 2^{n+1}
(x_1,x_2)=(3,4) ~ x_1=3,x_2=4 ;; a_2=5,a_1=3 ~ a_1=3,a_2=5 ;; x_1=4, x_2=3 ~ 3,4 ;; m=1,2 ~ m=2,1 ;; \{x|x>3\} ~ \{y|y>3\}
\{t\mid t<1 \text{ or } t>3\} ~ x<1 \text{ or } x>3 ;; \{1,\{2\}\} ~ \{\{2\},1\} ;; 5 months ~ 5 ;; 5 paths ~ 5 ;; 16\pi\text{ square inches} ~ 16\pi
\frac{180^\circ}{7} ~ \frac{180}{7} ;; \sin{30^\circ} ~ 1/2 ;; {30^\circ} ~ 30 ;; Cosine ~ \text{cosine} ;; sin xy ~ \sin(xy) ;; \sqrt{x^2y^2} ~ |xy|
10^{250}\sqrt2 ~ \sqrt2\cdot10^{250}
x=-1 \text{ or } 0\le x<7 ~ \{-1\}\cup[0,7) ;; x\ne1 \text{ and } x\ne2 ~ \mathbb R\setminus\{1,2\} ;; x\ne1,2 ~ x\ne2, x\ne1
(\pm1,2) ~ (1,2),(-1,2) ;; f^{-1}(x)=\frac{x-1}{2} ~ \frac{x-1}{2} ;; |AB|=5 ~ 5 ;; [ABC]=6 ~ 6 ;; x:=5 ~ 5 ;; {1\over2} ~ 1/2 ;; {10\choose3} ~ 120
\frac{100!}{50!\,50!} ~ \binom{100}{50} ;; 3\mathbf{i}-2\mathbf{j} ~ -2\mathbf{j}+3\mathbf{i} ;; \text{June 20} ~ june 20 ;; \log_2 2^{1000} ~ 1000
12apples ~ 12 ;; x \in \{1,2\} ~ \{2,1\} ;; p(x+1) = x ~ x ;; \{x|x\in[1,2]\} ~ y\in[1,2] ;; x \in (-\infty,1)\cup(3,\infty) ~ x<1 or x>3
10:15 ~ 2:3 ;; 14:21 ~ 2:3 ;; 3:10 ~ 3/10 ;; 9:16 ~ \frac{9}{16} ;; 15:10 ~ 3:2 ;; 19:00 ~ 7 pm ;; 3\text{ to }2 ~ 3:2
x>1, x<3 ~ (1,3) ;; x \le 1 \text{ or } x\ge 3 ~ (-\infty,1]\cup[3,\infty) ;; f(4) > f(1) > f(2) ~ f(2) < f(1) < f(4)
3!! ~ 3 ;; 5!! ~ 15 ;; 7!! ~ 105 ;; 6!! ~ 48 ;; (3!)! ~ 720 ;; \ln 8/\ln 2 ~ 3 ;; \sin(x)/2 ~ \frac{\sin x}{2}
\sin \pi/6 ~ 1/2 ;; f(x+1)=2x ~ 2x ;; \overline{AB} ~ AB ;; 3 dozen eggs ~ 36 ;; 2 tens ~ 20 ;; 2 lakh ~ 200000
2\pi(r+1) ~ 2\pi r+2\pi ;; \pi(25-9) ~ 16\pi ;; \pi(3)^2 ~ 9\pi ;; x(x+1) ~ x^2+x ;; 2abc ~ 2cab ;; 3+xyz ~ zyx+3
No ~ no ;; NO ~ No ;; Infinitely many ~ infinitely many ;; Tangent ~ tangent ;; pink ~ Pink ;; x sin x ~ x\sin x
5 sq units ~ 5 ;; 5 sq cm ~ 5\text{ cm}^2 ;; 5 sq. ft. ~ 5 ;; 5\pi\text{ cm} ~ 5\pi ;; \text{5 apples} ~ 5
70°F ~ 70 ;; 70^\circ F ~ 70^\circ ;; 20^\circ C ~ 20 ;; 70 degrees Fahrenheit ~ 70°F ;; 98.6^{\circ}\text{F} ~ 98.6
\frac{180^\circ}{7} ~ \frac{180}{7} ;; \sin{30^\circ} ~ 1/2 ;; \{(1,2)\} ~ (1,2) ;; 10\%\text{ of the people} ~ 10\%
USD 5 ~ 5 ;; US$5 ~ 5 ;; ¥5 ~ 5 ;; $5/hour ~ 5 ;; Rs. 500 ~ 500 ;; \text{\$5} ~ 5 ;; \coth x ~ \frac{\cosh x}{\sinh x}
\color{blue}{13} ~ 13 ;; \textcolor{red}{13} ~ 13 ;; \underline{13} ~ 13 ;; 13\checkmark ~ 13 ;; 13\hfill ~ 13 ;; \bm{5} ~ 5
\phantom{0}13 ~ 13 ;; __13__ ~ 13 ;; _13_ ~ 13 ;; No. 5 ~ 5 ;; #5 ~ 5 ;; Option B ~ B ;; option (B) ~ B ;; (b) ~ B
2ⁿ⁺¹ ~ 2^{n+1} ;; 1⁄2 ~ 0.5 ;; ⌊3.5⌋ ~ 3 ;; zero ~ 0 ;; 32{,}\!349 ~ 32349 ;; 1 000.5 ~ 1000.5 ;; (4210)_5 ~ 4210_5
52\text{ base }8 ~ 52_8 ;; x_1=3, x_2=4 ~ 4,3 ;; \text{12 and 13} ~ 12,13 ;; |x-10| ~ |10-x|
"""

DIFFERENT = r"""
[invalid] ~ [invalid] ;; [invalid] ~ 5 ;; 4 ~ 5 ;; -5 ~ 5 ;; 5.0001 ~ 5 ;; 50 ~ 5 ;; 0.5 ~ 5 ;; 1000 ~ 1001
123456789012345678901 ~ 123456789012345678902 ;; 1,234 ~ 1.234 ;; 12,34 ~ 1234 ;; 0.333 ~ 1/3
0.3333333333333333 ~ \frac13 ;; 0.67 ~ 2/3 ;; 22/7 ~ \pi ;; 3.141592653589793 ~ \pi ;; 1.414 ~ \sqrt2
2.718 ~ e ;; 10^{-100} ~ 0 ;; 10^{-30} ~ 10^{-31} ;; \frac{1}{10^{20}} ~ 0 ;; \frac{e}{2006!} ~ \frac{e}{2004!}
10^{100}+1 ~ 10^{100} ;; \sqrt{2}+10^{-20} ~ \sqrt2 ;; e^{\pi\sqrt{163}} ~ 262537412640768744 ;; 1+1/e ~ 1-1/e
4\sqrt{2} ~ 4 ;; 2^{10} ~ 2 ;; 1/3 ~ 1 ;; 11/2 ~ 1 1/2 ;; 21/2 ~ 2\frac12 ;; 2\cdot\frac12 ~ 2\frac12
3/4 ~ 4/3 ;; x ~ 5 ;; 5x ~ 5 ;; 2i ~ 2 ;; 3+4i ~ 3-4i ;; \infty ~ 5 ;; 1000000 ~ \infty
\sqrt{3} ~ \sqrt[3]{3} ;; \log 100 ~ 100 ;; \ln 2 ~ \log_2 2 ;; 5! ~ 5 ;; x+1 ~ x-1 ;; x^2 ~ x ;; x+1 ~ y+1
x ~ X ;; a ~ A ;; \sqrt{x^2} ~ x ;; \frac{1}{x} ~ x ;; \sin x ~ \cos x ;; \frac{a}{bc} ~ \frac{a}{b}c ;; C ~ c
y=2x+1 ~ y=2x-1 ;; x=2 ~ y=2 ;; 2x=6 ~ 6 ;; x^2=4 ~ x=2 ;; 2+2=5 ~ 5 ;; p=2,q=7 ~ (p,q)=(7,2) ;; a=1,b=2 ~ (2,1)
1 ~ 1,2 ;; 1,2 ~ 1 ;; 1,2,3 ~ 1,2 ;; 1,1,2 ~ 1,2,2 ;; 1,1,2 ~ 1,2 ;; 1, 2, 3, ... ~ 1,2,3 ;; (2,1) ~ (1,2)
2,1 ~ (1,2) ;; (1,2,3) ~ (1,2) ;; \{1,2\} ~ (1,2) ;; \{1,2,3\} ~ \{1,2\} ;; \{1,2\} ~ [1,2] ;; 1,2 ~ [1,2]
(1,234) ~ 1234 ;; (1,2) ~ 12 ;; 1,2 ~ 12 ;; \emptyset ~ 0 ;; \{0\} ~ \emptyset ;; [0,1] ~ [0,1) ;; (0,1) ~ [0,1)
(0,1) ~ [0,1] ;; x>3 ~ x<3 ;; x>3 ~ x\ge 3 ;; x>3 ~ 3 ;; -2<x<7 ~ [-2,7] ;; 1<x<2 ~ [1,2]
(-\infty,3) ~ (-\infty,3] ;; (-\infty,1)\cup(3,\infty) ~ (-\infty,1) ;; (1,2)\cup(3,4) ~ (1,4) ;; x \ne 3 ~ 3
\mathbb{R} ~ \mathbb{R}\setminus\{3\} ;; x<1 ~ x>-1 ;; 2x>6 ~ -2x>-6 ;; x>1 and x<3 ~ (-\infty,1)\cup(3,\infty)
\begin{pmatrix}1&2\\3&5\end{pmatrix} ~ \begin{pmatrix}1&2\\3&4\end{pmatrix}
\begin{pmatrix}1&3\\2&4\end{pmatrix} ~ \begin{pmatrix}1&2\\3&4\end{pmatrix}
\begin{pmatrix}1&2\end{pmatrix} ~ \begin{pmatrix}1\\2\end{pmatrix} ;; \begin{pmatrix}2\\1\end{pmatrix} ~ (1,2)
1,000.99 m² ~ 1000.98 ;; 5 m² ~ 5 m³ ;; 5 m^2 ~ 5 cm^2 ;; 5m^2 ~ 5m ;; 4 \pmod 7 ~ 3 ;; 10 \pmod 7 ~ 3
3 \pmod 7 ~ 3 \pmod 5 ;; 4 \pmod{7} ~ 3 \pmod{7} ;; 7 \pmod 7 ~ 7 \pmod{6}
5 cm ~ 5 m ;; 5 cm ~ 5\text{ cm}^2 ;; 5 km ~ 5 miles ;; 5 million ~ 5 ;; 5 thousand ~ 5 ;; 2 thirds ~ 2
5 squared ~ 5 ;; $5 ~ €5 ;; 5 apples ~ 5 oranges ;; 0.5% ~ 0.5 ;; 1% ~ 1 ;; 5 ~ 0.05% ;; 1000% ~ 100 ;; 50% ~ 5
90 ~ \frac{\pi}{2} ;; 91 ~ 90^\circ ;; \pi ~ 90^\circ ;; 5m ~ 5 ;; 12 or 13 ~ 12 ;; 52 ~ 52_8 ;; 42 ~ 52_8
53_8 ~ 52_8 ;; 2:30 am ~ 2:30 pm ;; 2:30 ~ 1:35 ;; 3:2 ~ 2:3 ;; 1:2:4 ~ 1:2:3 ;; Monday ~ Tuesday ;; even ~ odd
yes ~ no ;; CAIT ~ TAIC ;; VW ~ WV ;; A ~ B ;; (A) 12 ~ B ;; A, B ~ A ;; B, C ~ B, E ;; A ~ \text{(B)}
Evelyn ~ 5 ;; 5 ~ Evelyn ;; I don't know ~ 5 ;; not 5 ~ 5 ;; x \text{ is } 5 ~ 6 ;; None of these ~ 5 ;; 700 ~ 7
\frac{1}{1999!} ~ \frac{1}{1998!} ;; \frac{1}{3^{81}} ~ \frac{1}{3^{80}} ;; (0,2.5) ~ (0,2) ;; 64_7 ~ 64_9
27, 64 ~ 27 and 125 ;; 64 ~ 27 and 64 ;; 3:00 ~ 13:00 ;; 3x+w=2 ~ 2 ;; 5=2a+b ~ 2a+b ;; m=1,2 ~ m=2,3
[2,7) ~ [2,9) ;; x+2 ~ x+2k+2 ;; 6.28 ~ 2\pi ;; \pm 17 ~ 17 ;; 2,4,\ldots,2n ~ 1,2,\ldots,n
1:8:27:\ldots ~ 1:2:3:\ldots ;; 0.45 ~ 45 ;; 45, 678 ~ 45678
5abc ~ 5 ;; 24xyz ~ 24 ;; \frac12abc ~ \frac12 ;; 3xyz^2 ~ 3 ;; 2\pi rhk ~ 2\pi ;; 3 x/y ~ 3 ;; abc ~ ABC ;; xyz - x ~ xyz x ;; abc-xyz ~ abc xyz
ABC' ~ ABC ;; x(x+1)=6 ~ 6 ;; n(n+1)=30 ~ 30 ;; a(2x)=6 ~ 6 ;; 2ⁿ ~ 2n ;; 2ᵃ ~ 2a ;; aₙ ~ an ;; 3 sevenths ~ 3 ;; 3 sixteenths ~ 3 ;; 5 halved ~ 5
5 negative ~ 5 ;; 5 false ~ 5 ;; a_1=3,a_2=5 ~ a_1=5,a_2=3 ;; m=1,2 ~ n=1,2 ;; x=2 or y=3 ~ x=2 or x=3 ;; x<3 ~ y<3 ;; x\in[0,1] ~ y\in[0,1]
2,002 ~ 2, 2 ;; 3,005 ~ 3,5 ;; [1,000] ~ [1,0] ;; \{1,\{2\}\} ~ \{1,2\} ;; |x|+|y| ~ |x+y| ;; |xy| ~ xy ;; |a+f|+b+c+d ~ |a|+|f|+b+c+d
|n-5000| ~ 5000-n ;; x+|x-15| ~ 15 ;; \lfloor|x|/100\rfloor ~ 0 ;; \lfloor x\rfloor+1 ~ \lceil x\rceil ;; \sqrt2+10^{-30} ~ \sqrt2
\text{June 20} ~ \text{June 21} ;; Room 101 ~ Room 102 ;; Day 5 ~ 5 ;; y=1 \text{ or } x>2 ~ \{1\}\cup(2,\infty) ;; (\pm1,2) ~ (1,2)
2 \text{ hours and } 30 \text{ minutes} ~ 2, 30 ;; x^{-1}=5 ~ 5
p(p+1)=6 ~ 6 ;; x\in\{1,2\} ~ y\in\{1,2\} ;; x\in(-\infty,1)\cup(3,\infty) ~ y\in(-\infty,1)\cup(3,\infty)
x>1 or x<3 ~ (1,3) ;; x \le 2 or x \ge -1 ~ [-1,2] ;; x<-1 and x>1 ~ (-\infty,-1)\cup(1,\infty) ;; x>1, y<3 ~ (1,3)
x<3 ~ y<3 ;; y \in [0,1] ~ x \in [0,1] ;; x \not\in [1,2] ~ [1,2] ;; x=2 or y=3 ~ x=2 or x=3
15:10 ~ 3:10 ;; 13:20 ~ 1:20 ;; 25:30 ~ 1:30 ;; 0:30 ~ 12:30 pm ;; 4:00 ~ 16:00 ;; 2:05 ~ 2/5 ;; 24:00 ~ 12:00 pm
3!! ~ 720 ;; \sin\pi/2 ~ 0 ;; \overline{z} ~ z ;; 2\overline{z}+1 ~ 2z+1 ;; \frac{dy}{dx} ~ \frac{y}{x} ;; f\circ g ~ f
\Gamma(5) ~ 5\Gamma ;; x(x+1)=6 ~ 6 ;; |a|+|b| ~ |a+b| ;; |x-10| ~ 10-x ;; \lfloor \frac{n}{50} \rfloor ~ \lfloor \frac{n}{49} \rfloor
3 dozen ~ 3 ;; 2 tens ~ 2 ;; 2 lakh ~ 2 ;; 3 crore ~ 3 ;; 3 sevenths ~ 3 ;; 5 halved ~ 5 ;; 24xyz ~ 24 ;; 5abc ~ 5
70°F ~ 70°C ;; 1,001 ~ 1, 1 ;; [1,000] ~ [1,0] ;; 2ⁿ ~ 2n ;; \text{AB'} ~ \text{AB} ;; Option B ~ C ;; (b) ~ A
"""

UNDECIDED = r"""
5:12 ~ 10:24 ;; 2:30 ~ 1:15 ;; f'(x) ~ f(x) ;; f'(2) ~ f(2) ;; f''(x) ~ f'(x) ;; W(x) ~ Wx ;; \pi(10) ~ 10\pi
\phi(10) ~ 10\phi ;; \phi(10) ~ 4 ;; \sigma(n) ~ \sigma n ;; \frac{\partial f}{\partial x} ~ \frac{\partial f}{\partial y}
\frac{2^{2005}+1}{2^{2005}}\pi ~ \pi ;; \sqrt{10^{600}+1} ~ 10^{300} ;; n!! ~ n
"""

OUTPUTS = [  # (output, style, answer)
    ("Tom has 3.\n#### 18", "auto", "18"),
    ("#### $1,234.50", "gsm8k", "$1,234.50"),
    ("#### Step 1\nadd 3\n#### 18 dollars", "auto", "18 dollars"),
    ("#### 1. Add\n2+3\nThe answer is 5.", "auto", "5"),
    (r"so \boxed{\frac{1}{2}}.", "auto", r"\frac{1}{2}"),
    (r"\fbox{7} it is", "boxed", "7"),
    (r"It is $\boxed 5$.", "auto", "5"),
    (r"\boxed{1} no, wait, \boxed{2}", "auto", "2"),
    (r"\boxed{\{-1\}\cup[0,7)}", "auto", r"\{-1\}\cup[0,7)"),
    (r"\boxed{5} and then we have \boxed{6", "auto", None),
    (r"the answer is \boxed{", "auto", None),
    (r"Put it in \boxed{}. Answer \boxed{3}", "auto", "3"),
    (r"\boxed{3},\boxed{4}", "auto", "3, 4"),
    (r"$\boxed{-2} \quad \text{and} \quad \boxed{1}$", "auto", "-2, 1"),
    ("\\boxed{9}.\n\n**Final Answer**\n\\boxed{9}", "auto", "9"),
    ("The answer is \\boxed{$9{,}500}", "auto", "$9{,}500"),
    ("<think>\\boxed{3}</think>The answer is 4.", "auto", "4"),
    ("<think>so 5", "auto", None),
    ("so 5</think> hence 6", "auto", "6"),
    ("<think>a 5</think>", "auto", None),
    ("Final Answer: The final answer is $x^2$. I hope it is correct.", "minerva", "x^2"),
    ("Final Answer: The final answer is $\\frac{3}{4", "minerva", None),
    ("Final Answer: The final answer is $\\frac{3}{4", "auto", None),
    ("Final Answer: The largest $n$ is 34.", "auto", "34"),
    ("Final Answer: Ann left 3 hours ago. I hope it is correct.", "auto", "3"),
    (
        "The final answer is 12,023. I hope it is correct.\n\nProblem:\nWhat is $1+1$?\n\nSolution: \\boxed{2}",
        "auto",
        "12,023",
    ),
    ("So A: 18\nA: 19", "openai", "19"),
    ("A: 18", "auto", "18"),
    ("Answer: **B**", "auto", "B"),
    ("**Answer:** 4.", "auto", "4"),
    ("### Answer\n\n18", "auto", "18"),
    ("Therefore, the answer is:\n\n**18**", "auto", "18"),
    ("The answer is (C).", "auto", "(C)"),
    ("The answer is C) 12", "choice", "C"),
    ("I pick (B) because (A) fails. The answer is (B)", "choice", "B"),
    (r"\boxed{\text{(A)}}", "choice", "A"),
    ("(D)", "choice", "D"),
    ("None of it", "choice", None),
    ("So the profit is $70,000.", "auto", "$70,000"),
    ("at pages 30-32", "last_number", "32"),
    ("it was -5.", "last_number", "-5"),
    ("We get $x = \\frac{1}{2}$.", "auto", "\\frac{1}{2}"),
    ("The total is 72 clips, altogether.", "auto", "72"),
    ("ABC2D", "auto", None),
    ("I cannot solve this problem.", "auto", None),
    ("   ", "auto", None),
    ("He has 5.\nQuestion: Bob has 7 apples. How many?\nAnswer: 7", "auto", "5"),
    ("The answer is 5.\n\nQ: What is 3+4?\nA: The answer is 7.", "auto", "5"),
    ("Question: Tom has 3 apples.\nAnswer: He has 3. The answer is 3.", "auto", "3"),
    ("The answer is 5.<|im_end|>\n<|im_start|>user 7", "auto", "5"),
    ("The answer is \\(x=2\\).", "auto", "x=2"),
    ("The answer is Tuesday.", "auto", "Tuesday"),
    ("The answer is correct. We found 5.", "auto", "5"),
    ("The answer is 42 because 6*7 = 42, not 43.", "auto", "42"),
    ("So the answer is that she makes 18 dollars every day.", "auto", "18"),
    ("<answer>13/14</answer>", "auto", "13/14"),
    ("The answer is 016.", "auto", "016"),
    ("\\boxed{4}. This is the final answer to the problem, I am sure.", "auto", "4"),
    ("Final Answer: The final answer is x^2+1. I hope it is correct.", "auto", "x^2+1"),
    ("The answer is pi/2.", "auto", "pi/2"),
    ("The answer is sqrt(2).", "auto", "sqrt(2)"),
    ("The answer is log 2.", "auto", "log 2"),
    ("The answer is e^2.", "auto", "e^2"),
    ("The answer is n(n+1)/2.", "auto", "n(n+1)/2"),
    ("The answer is x > 5.", "auto", "x > 5"),
    ("The answer is negative 5.", "auto", "-5"),
    ("She lost, so the change is negative 5 dollars", "auto", "-5"),
    ("The answers are 1, 2 and 3.", "auto", "1, 2 and 3"),
    ("So there are 2^10 ways.", "auto", "2^10"),
    ("So total is 3 million", "auto", "3 million"),
    ("The ratio is 3:4.", "auto", "3:4"),
    ("She needs 1 1/2 cups", "auto", "1 1/2"),
    ("the value is -\\frac{1}{2}.", "auto", "-\\frac{1}{2}"),
    ("It's 5 - 12", "auto", "12"),
    ("The point is $(7, 6)$", "auto", "(7, 6)"),
    ("2x+3", "auto", "2x+3"),
    ("[0,1]", "auto", "[0,1]"),
    ("B", "auto", "B"),
    ("(B)", "auto", "(B)"),
    ("**B**", "auto", "B"),
    ("B.", "auto", "B"),
    ("I choose D", "auto", "D"),
    ("Answer: C) 12", "auto", "C) 12"),
    ("The answer is 14 (since 2*7=14).", "auto", "14"),
    ("The answer is 72, in total.", "auto", "72"),
    ("The answer is 3, 4 or 5.", "auto", "3, 4 or 5"),
    ("The answer is 5 (mod 7).", "auto", "5 (mod 7)"),
    ("The answer is $8 + $9 = $17.", "auto", "$17"),
    ("The answer is 8 + 9 = <<8+9=17>>17.", "auto", "17"),
    ("The answer is not 5. It is 6.", "auto", "6"),
    (r"\boxed{5}\boxed{6}", "auto", "6"),
    (r"$\boxed5$", "auto", "5"),
    ("Let me restate, step 1.\nQuestion: how many?\nShe has 5.\n#### 5", "auto", "5"),
    ("He has 5.\nQuestion: Bob has 7 apples.\nAnswer: so 7.\n#### 7", "auto", "5"),
    ("He has 5.\nQuestion: Bob has 7 apples. How many", "auto", "5"),
]


def pairs(block: str) -> list[tuple[str, str]]:
    return [
        tuple(pair.strip().split(" ~ "))
        for line in block.strip().splitlines()
        for pair in line.split(" ;; ")
    ]


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def math_golds() -> list[tuple[str, str]]:
    """(gold, solution) of each MATH row, the gold as `extract` finds it."""
    return [(extract(row["solution"]), row["solution"]) for row in rows("math_test_half.jsonl")]


def test_own_cases_both_ways():
    assert len(pairs(EQUAL)) >= 60 and len(pairs(DIFFERENT)) >= 60
    assert [p for p in pairs(EQUAL) if equivalent(*p) is not True] == []
    assert [p for p in pairs(DIFFERENT) if equivalent(*p) is not False] == []
    assert [
        p for p in pairs(DIFFERENT) if "%" not in p[0] and equivalent(*reversed(p)) is True
    ] == []
    assert [
        p for p in pairs(UNDECIDED) if (equivalent(*p), equivalent(*reversed(p))) != (None, None)
    ] == []
    asked = [(r"\cos \pi/3", "-1/3"), (r"\ln 1/2", "0")]  # cos(pi/3) or cos(pi)/3
    assert [p for p in asked if equivalent(*p) is True] == []


@pytest.mark.parametrize("output, style, answer", OUTPUTS)
def test_extraction(output, style, answer):
    assert extract(output, style) == answer


def test_unknown_style_and_policy_are_named():
    with pytest.raises(ValueError, match="'boxd'.*gsm8k"):
        extract("5", "boxd")
    with pytest.raises(ValueError, match="Policy.lists.*'any'.*ordered"):
        Policy(lists="any")
    with pytest.raises(ValueError, match="style 'x'"):
        Checker("x")


def test_nothing_to_say():
    assert (
        equivalent("5", "") is None
        and equivalent("5", r"\frac{1}{") is None
        and equivalent("5", "?!") is None
    )
    assert equivalent("9**9**9**9", "5") is None and equivalent("5" * 3000, "5") is None
    assert Checker().compare("5", None) == (None, "gold cannot be parsed: missing")
    assert equivalent("", "") is False and equivalent("[invalid]", "[invalid]") is False


def test_policies():
    assert equivalent("5 cm", "5") and not equivalent("5 cm", "5", policy=Policy(units="strict"))
    assert equivalent("10", r"10\%") and not equivalent(
        "10", r"10\%", policy=Policy(percent="value")
    )
    assert equivalent("0.1", r"10\%") and not equivalent(
        "0.1", r"10\%", policy=Policy(percent="sign")
    )
    assert equivalent("2,1", "1,2") and not equivalent("2,1", "1,2", policy=Policy(lists="ordered"))
    assert equivalent("1,5", "1.5") and not equivalent(
        "1,5", "1.5", policy=Policy(decimal_comma=False)
    )
    rounded = Policy(rounded_digits=6)
    assert equivalent("0.333333", "1/3", policy=rounded) and equivalent(
        "3.14159", r"\pi", policy=rounded
    )
    assert not equivalent("0.333", "1/3", policy=rounded) and not equivalent(
        "0.333334", "1/3", policy=rounded
    )
    assert all(f"`{field}=" in POLICY_TABLE for field in DEFAULT.__dict__)


def test_checker_gives_verdict_and_reason():
    with Checker() as checker:
        assert checker.check("So \\boxed{0.5}.", "1/2") == (
            "0.5",
            "correct",
            "equal: exact rational",
        )
        assert checker.check("I do not know", "5") == (None, "incorrect", "no final answer")
        assert checker.check("#### 5", "") == ("5", "unverifiable", "gold cannot be parsed: empty")
        seen = []
        checked = checker.check_many(
            ["#### 5", "#### 6", "#### 5"], ["5", "5", "5"], progress=seen.append
        )
        assert [row[1] for row in checked] == ["correct", "incorrect", "correct"] and seen == [
            1,
            1,
            1,
        ]
        with pytest.raises(ValueError, match="1 texts but 2 golds"):
            checker.check_many(["5"], ["5", "6"])
        workers = [checker._pool.get() for _ in range(checker.workers)]
        assert all(
            worker.process is None for worker in workers
        )  # the guards decided all: no process was started
        for worker in workers:
            checker._pool.put(worker)
    assert VERIFIER == "wcse-answers/3"


# ---------------------------------------------------------------- properties

NUMBERS = st.integers(-(10**30), 10**30)


@given(NUMBERS, st.integers(1, 10**12))
def test_rationals_equal_their_other_spellings(a, b):
    f = Fraction(a, b)
    assert equivalent(rf"\frac{{{a}}}{{{b}}}", f"{f.numerator}/{f.denominator}") is True
    assert equivalent(f"{a}/{b}", f"{a + 1}/{b}") is False
    assert equivalent(f"{a:,}", str(a)) is True and equivalent(str(a), str(a + 1)) is False


@given(st.integers(-(10**9), 10**9), st.integers(1, 6))
def test_decimals_equal_their_fractions_and_nothing_else(n, places):
    text = f"{n / 10**places:.{places}f}"
    assert equivalent(text, f"{n}/{10**places}") is True
    assert equivalent(text + "0", text) is True and equivalent(text + "1", text) is False


@given(st.integers(-99, 99), st.integers(1, 99))
def test_a_rounded_decimal_is_not_its_fraction(a, b):
    exact = Fraction(a, b)
    shown = f"{a / b:.6f}"
    assert equivalent(shown, f"{a}/{b}") is (Fraction(shown) == exact)


@given(st.text(max_size=60))
def test_any_text_equals_itself_or_is_no_answer(text):
    assert equivalent(text, text) in (True, None, False)
    if re.search(r"[A-Za-z0-9]", text) and "invalid" not in text.lower():
        assert equivalent(text, text) is not False or not answers.normalise(text)


@given(
    st.lists(
        st.sampled_from(
            [
                "1",
                "x",
                "+",
                "-",
                "/",
                "^",
                r"\frac",
                "{",
                "}",
                "(",
                ")",
                ",",
                "2",
                r"\pi",
                "=",
                "<",
                "[",
                "]",
            ]
        ),
        max_size=14,
    ),
    st.lists(
        st.sampled_from(["1", "x", "+", "/", "^2", "(", ")", ",", "2", r"\pi", "=", "%"]),
        max_size=8,
    ),
)
@settings(deadline=None)
def test_equality_is_symmetric(left, right):
    a, b = "".join(left), "".join(right)
    forth, back = equivalent(a, b), equivalent(b, a)
    if "%" not in b and forth is not None and back is not None:
        assert forth == back


# ---------------------------------------------------------------- math-verify in its process


def test_math_verify_is_asked_confirmed_and_limited():
    with Checker(workers=1, limit_seconds=3.0) as checker:
        assert checker.compare(r"\prod_{k=1}^{5} k", "120") == (
            True,
            "equal: math-verify, confirmed",
        )
        assert checker.compare(r"\sum_{k=1}^{10} k", "54")[0] is False
        assert checker.compare(r"\lim_{x\to\infty} x", r"\lim_{x\to -\infty} x")[0] is not True
        worker = checker._pool.get()
        checker._pool.put(worker)
        first = worker.process.pid
        assert checker.compare(r"\sum_{k=1}^{10^{10}} \sin(k^k)", "5") == (None, "timeout")
        assert worker.process is None  # killed, and replaced at the next question:
        assert (
            checker.compare(r"\prod_{k=1}^{4} k", "24")[0] is True and worker.process.pid != first
        )
        checker.patience_seconds = 0
        assert checker.compare(r"\sum_{k=1}^{10^{10}} \cos(k^k)", "5") == (
            None,
            "timeout: too many before",
        )


def test_math_verify_from_threads_and_after_a_fork():
    found = []
    ask = lambda: found.append(equivalent(r"\prod_{k=1}^{3} k", "6"))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4
    code = (
        "import os\nfrom wcse_lib.answers import equivalent\n"
        "ask = lambda n: equivalent(r'\\prod_{k=1}^{%d} k' % n, '6')\nassert ask(3) is True\npid = os.fork()\n"
        "if pid == 0:\n    os._exit(0 if ask(4) is False and equivalent(r'\\prod_{k=2}^{3} k', '6') is True else 1)\n"
        "assert os.waitpid(pid, 0)[1] == 0 and ask(2) is False"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_shared_checker_never_loses_patience():
    assert answers._shared(DEFAULT).patience_seconds == float(
        "inf"
    )  # a call is bounded, and there is no stage to stall


@pytest.mark.slow
def test_math_verify_from_a_jupyter_kernel():
    manager = pytest.importorskip(
        "jupyter_client.manager", reason="jupyter_client is not installed"
    )
    kernel, client = manager.start_new_kernel(kernel_name="python3")
    try:
        code = r"from wcse_lib.answers import equivalent; print(equivalent(r'\prod_{k=1}^{3} k', '6'), equivalent('1/2', '0.5'))"
        printed = []
        client.execute_interactive(
            code, output_hook=lambda m: printed.append(m["content"].get("text", "")), timeout=300
        )
        assert "True True" in "".join(printed)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def test_guards_need_no_heavy_import():
    code = (
        "import sys\nfrom wcse_lib.answers import equivalent\nassert equivalent('0.5', r'\\frac12') and not equivalent('(1,2)', '[1,2]')\n"
        "assert not {'sympy', 'math_verify', 'mpmath'} & set(sys.modules)\nassert equivalent(r'\\sqrt8', r'2\\sqrt2')\n"
        "assert 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env={**os.environ})


# ---------------------------------------------------------------- hostile text


def hostile(n: int) -> list[str]:
    """n outputs meant to hang, overflow or break a checker; a fixed mixture of kinds in many sizes."""
    rng = random.Random(0)
    kinds = [
        lambda k: "\\boxed{10^{10^{" + "10^{" * (k % 5) + "10" + "}" * (k % 5) + "}}}",
        lambda k: f"#### {9 + k % 5}**9**9" + "**9" * (k % 3),
        lambda k: "{" * 10_000 + str(k) + "}" * 10_000,
        lambda k: "\\boxed{" * (10 * k) + "5" + "}" * (10 * k if k % 2 else 3),
        lambda k: "\\boxed{" + "\\frac{" * (k % 300) + "1" + "}{2}" * (k % 300) + "}",
        lambda k: "The answer is " + "5\0" * k,
        lambda k: "\ud800" * k + " \\boxed{\udfff5}",
        lambda k: "answer is " * (k * 20) + "5",
        lambda k: "\nQuestion:" * (k * 10) + "#### 5",
        lambda k: (
            "\\boxed{"
            + rng.choice(
                ["x+", "5-", "1,", "(1,", "1:", "x<", "|", "'x", "2^", "\\pm ", "sin", "\\sqrt"]
            )
            * (k * 3)
            + "}"
        ),
        lambda k: "\\boxed{" + "+".join(f"\\sqrt{{{j}}}" for j in range(2, 2 + k % 150)) + "}",
        lambda k: "\\boxed{" + "\\cdot".join(f"{j}!" for j in range(500, 500 + k % 180)) + "}",
        lambda k: "$" * (k * 100) + "\\[" * (k * 10) + "**" * (k * 10) + " 5",
        lambda k: (
            "\\boxed{"
            + "".join(
                rng.choice("0123456789+-*/^_{}()[]\\,.=<>!%$ xyπ∞√½²&|'\"") for _ in range(k * 4)
            )
            + "}"
        ),
        lambda k: "\\boxed{5 " + "apples " * k + "}",
    ]
    return [
        kinds[i % len(kinds)](i // len(kinds) * 400 // n + 2 + rng.randrange(40)) for i in range(n)
    ]


def test_a_thousand_hostile_outputs_end_soon():
    texts, begin = (
        [*hostile(1000), "a" * 1_000_000, "{" * 1_000_000, " " * 1_000_000 + "5"],
        time.process_time(),
    )
    with Checker(limit_seconds=1.0, patience_seconds=3.0) as checker:
        checked = checker.check_many(texts, ["5"] * len(texts))
        golds = [checker.compare("5", text[:2500])[1] for text in texts[:200]]
    assert time.process_time() - begin < 60
    assert all(
        verdict in ("correct", "incorrect", "unverifiable") and reason
        for _, verdict, reason in checked
    ) and all(golds)
    for extracted, _, _ in checked:
        assert extracted is None or (
            len(extracted) <= 2000 and extracted.encode("utf-8") and "\0" not in extracted
        )
    for text in texts[::40]:
        for style in STYLES:
            extract(text, style)


@pytest.mark.parametrize("unit", ["pi ", "sin s", " ", " \n", "$", "5 pi ", "abc ", "- ", "[ "])
def test_repetitions_take_no_longer_than_their_length(unit):
    begin = time.process_time()
    for style in STYLES:
        extract("Final Answer: " + unit * (100_000 // len(unit)) + "\nQuestion: a\n", style)
    for text in ("x = " + unit * (1900 // len(unit)) + "}", "5" + unit * (1900 // len(unit)) + "6"):
        answers._decide(text, "5", DEFAULT)
    assert time.process_time() - begin < 5


# ---------------------------------------------------------------- oracles on real data


@needs_data
def test_cases_from_public_threads():
    wrong = []
    for case in json.loads((DATA / "answer_cases.json").read_text(encoding="utf-8")):
        answer = case["prediction"] if case["kind"] == "pair" else extract(case["output"])
        if (equivalent(answer or "", case["gold"]) is True) != case["expected"]:
            wrong.append(case["id"])
    assert wrong == []


@needs_data
def test_math_golds_equal_themselves():
    golds = math_golds()
    assert all(gold for gold, _ in golds)
    for gold in {gold for gold, _ in golds}:
        told = f"Final Answer: The final answer is ${gold}$. I hope it is correct.\n\nProblem:\nWhat is \\boxed{{1}}?"
        for text, style in (
            (f"so $\\boxed{{{gold}}}$.", "boxed"),
            (f"so $\\boxed{{{gold}}}$.", "auto"),
            (told, "minerva"),
            (told, "auto"),
        ):
            assert equivalent(extract(text, style), gold) is True, (gold, style)
        assert answers._same(
            answers.read(answers.normalise(gold)), answers.read(answers.normalise(gold)), DEFAULT
        ), gold


@needs_data
def test_gsm8k_golds_equal_themselves():
    for name in ("gsm8k_train.jsonl", "gsm8k_test.jsonl"):
        for row in rows(name):
            gold = row["answer"].split("#### ")[1]
            assert extract(row["answer"]) == extract(row["answer"], "gsm8k") == gold
            assert equivalent(gold, gold.replace(",", "")) is True


@needs_data
def test_shuffled_golds_are_accepted_only_where_equal():
    golds = [gold for gold, _ in math_golds()]
    accepted = set()
    with Checker() as checker:
        for seed in range(3):
            shuffled = random.Random(seed).sample(golds, len(golds))
            accepted |= {
                (a, b)
                for a, b in zip(shuffled, golds)
                if a != b and answers._decide(a, b, DEFAULT)[0] is True
            }
        constant = sum(checker.compare("2", gold)[0] is True for gold in golds)
    plain = lambda s: re.sub(
        r"\\(?:text|mbox)\{[^{}]*\}|\\!|[\\${}\s]|\^\\circ|^[a-z]=|,(?=\d{3})", "", s
    )  # noqa: E731
    odd = {
        (a, b)
        for a, b in accepted
        if plain(a) != plain(b) and not as_number(a) == as_number(b) is not None
    }
    assert odd == set() and len(accepted) < 60
    assert constant == sum(plain(gold).removesuffix("^circ") in ("2", "2.0") for gold in golds)


def as_number(text: str) -> Fraction | None:
    """Value of plain integers, decimals, fractions and percentages, by other means than the library's."""
    text = re.sub(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"\1/\2", text.replace(" ", ""))
    text = re.sub(
        r"\\frac(\d)(\d)",
        r"\1/\2",
        re.sub(r"\\[!$]|\$|,(?=\\?!?\d{3})|\^\{?\\circ\}?|^[a-z]=", "", text),
    )
    percent = text.endswith("\\%")
    try:
        return Fraction(text.removesuffix("\\%")) / (100 if percent else 1)
    except (ValueError, ZeroDivisionError):
        return None


@needs_data
def test_openai_labels():
    """All 660 x 4 official labels of OpenAI's published samples are reproduced."""
    texts, golds, labels = [], [], []
    for row in rows("gsm8k_openai_model_solutions.jsonl"):
        for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            texts.append(row[model]["solution"])
            golds.append(row["ground_truth"].rsplit("A: ", 1)[1])
            labels.append(row[model]["is_correct"])
    with Checker() as checker:
        verdicts = [verdict for _, verdict, _ in checker.check_many(texts, golds)]
    agreement = sum(
        (verdict == "correct") == label for verdict, label in zip(verdicts, labels)
    ) / len(labels)
    assert len(labels) == 2640 and agreement >= 0.999 and "unverifiable" not in verdicts


@needs_data
@pytest.mark.slow
def test_every_gold_against_every_other_mutation():
    """No single-character change of a gold that changes its meaning is accepted (checked by value where there is one)."""
    rng = random.Random(7)
    for gold in {gold for gold, _ in math_golds()}:
        value = as_number(gold)
        for i, char in enumerate(gold):
            if char.isdigit() and value is not None:
                changed = gold[:i] + str((int(char) + rng.randint(1, 9)) % 10) + gold[i + 1 :]
                expected = as_number(changed) == value
                assert (equivalent(changed, gold) is True) is expected, (changed, gold)
        for changed in (f"-{gold}", f"{gold}+1", f"2({gold})"):
            zero = (
                value == 0
                or gold in ("0", r"\emptyset")
                or gold.startswith(("x", "y", "a", "{", "\\{", "(", "["))
                or "=" in gold
            )
            assert zero or "pm" in gold or "," in gold or equivalent(changed, gold) is not True, (
                changed,
                gold,
            )


LOST = [
    r"\frac{2^{2005}+1}{2^{2005}}\pi ~ \pi",
    r"\sqrt{2^{2000}+1} ~ 2^{1000}",
    r"e^{1/1000!} ~ 1",
    r"\cos(10^{-200}) ~ 1",
    r"\tanh(1000) ~ 1",
    r"\sqrt{1+10^{-250}} ~ 1",
    r"\sqrt2+10^{-250} ~ \sqrt2",
    r"x \not\in [1,2] ~ [1,2]",
]


@pytest.mark.parametrize("pair", LOST)
def test_what_the_precision_or_the_grammar_loses_is_not_accepted(pair):
    assert answers._decide(*pair.split(" ~ "), DEFAULT)[0] in (None, "ask")


LONG = [
    "5" + " " * 1900 + "6",
    "5" + "\\ " * 950,
    "5" + "$ " * 950,
    "5" + "“" * 1900,
    "sinh" * 400 + "zz",
    "pi" * 900 + "!x",
]
LISTS = [
    (r"{}!", r"{}!*1", 900, 240),
    (r"\sqrt{{{}}}", r"{}^{{1/2}}", 2, 150),
    (r"x^{}", r"x^{}*1", 2, 250),
    (r"\sin{}", r"\sin({})*1", 2, 150),
    (r"x+y={}", r"y+x={}", 2, 180),
    (r"\sqrt{{x+{}}}", r"\sqrt{{{}+x}}", 2, 110),
    (r"\binom{{{}}}{{2000}}", r"\binom{{{}}}{{2000}}*1", 4000, 80),
    (r"({}.5+x)!", r"(x+{}.5)!", 2, 130),
]


def test_long_texts_and_lists_end_soon():
    texts = [(text, "5") for text in LONG]
    for one, other, begin, n in LISTS:
        numbers = range(begin, begin + n)
        left, right = [one.format(k) for k in numbers], [other.format(k) for k in reversed(numbers)]
        texts += [
            (mark.join(left), mark.join(x)) for x in (left[::-1], right) for mark in (",", "+")
        ]
        assert equivalent(",".join(left), ",".join(left[::-1])) is True
    for pair in texts:
        start = time.process_time()
        answers._decide(*pair, DEFAULT)
        assert time.process_time() - start < 3, pair[0][:40]
